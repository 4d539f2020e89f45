package libvirt

import (
	"bufio"
	"context"
	"fmt"
	"image/png"
	"io"
	"path/filepath"

	"github.com/belljar/belljar/atomicfile"
	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm/screen"
)

// screenPNG is the picture's name in the machine's folder.
const screenPNG = "screen.png"

// Screendump writes what the screen shows (virDomainScreenshot, over a stream) to screen.png in the machine's folder.
func (g *guest) Screendump(ctx context.Context) (string, error) {
	op := "picture of the screen of " + g.Name
	if !g.screen {
		return "", fault.New(fault.Usage, op, "it has none")
	}
	if g.IsGone() {
		return "", g.TooLate(op)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s, err := g.link.open(ctx, procDomainScreenshot, domainArgs(g.domain).word(0).word(0))
	if err != nil {
		return "", g.link.trouble(op, err)
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { s.Close() })()
	path := filepath.Join(g.Dir, screenPNG)
	if err := atomicfile.WriteFunc(path, 0o644, func(w io.Writer) error { return picture(w, s) }); err != nil {
		return "", fault.New(fault.Host, op, "%w", orCause(ctx, err))
	}
	return path, nil
}

// picture writes as PNG what may be one already: libvirt hands on what its QEMU can make.
func picture(w io.Writer, from io.Reader) error {
	r := bufio.NewReader(from)
	if head, _ := r.Peek(4); string(head) != "\x89PNG" {
		return screen.PNG(w, r)
	}
	img, err := png.Decode(r)
	if err != nil {
		return fmt.Errorf("picture of a screen: %w", err)
	}
	return png.Encode(w, img)
}
