package qemu

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/atomicfile"
	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm/screen"
)

// The picture of a machine's screen: what QEMU writes, in its own folder and by a relative name, for nothing else may be
// open to it; and what is made of that.
const (
	screenPPM = "screen.ppm"
	screenPNG = "screen.png"
)

// Screendump writes what the screen shows (QMP screendump, qapi/ui.json) to screen.png in the machine's folder.
func (g *guest) Screendump(ctx context.Context) (string, error) {
	op := "picture of the screen of " + g.Name
	if !g.screen {
		return "", fault.New(fault.Usage, op, "it has none")
	}
	if g.IsGone() {
		return "", g.TooLate(op)
	}
	limit := 10 * time.Second
	if end, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(end))
	}
	ppm := filepath.Join(g.Dir, screenPPM)
	err := g.monitor.ask(limit, "screendump", map[string]string{"filename": screenPPM}, nil)
	if err != nil {
		return "", fault.New(fault.Host, op, "%w", errors.Join(err, ctx.Err()))
	}
	defer os.Remove(ppm)
	in, err := os.OpenFile(ppm, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0) // QEMU wrote it: it may be anything
	if err != nil {
		return "", fault.New(fault.Host, op, "%w", err)
	}
	defer in.Close()
	path := filepath.Join(g.Dir, screenPNG)
	if err := atomicfile.WriteFunc(path, 0o644, func(w io.Writer) error { return screen.PNG(w, in) }); err != nil {
		return "", fault.New(fault.Host, op, "%w", err)
	}
	return path, nil
}
