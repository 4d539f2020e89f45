package watch

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
)

// once is a guest that is watched until its first sample has been taken.
type once struct {
	vm.Guest
	taken context.CancelFunc
}

func (o once) Progress(context.Context) (vm.Progress, error) {
	o.taken()
	return vm.Progress{CPU: 1200 * time.Millisecond, Console: 17}, nil
}

// A machine that dies before the second sample leaves one all the same.
func TestEarlyDeathLeavesASample(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	limits := Defaults(1)
	limits.Every = time.Hour
	g := NewGuard(once{taken: cancel}, limits)
	if err := g.Watch(ctx, func(text string) { t.Errorf("noted: %s", text) }); err != nil {
		t.Fatal(err)
	}
	told := g.Explain(fault.New(fault.Host, "guest", "QEMU was ended by signal 9"), t.TempDir())
	for _, e := range told.Evidence {
		if e.Title == progressTitle && strings.Contains(e.Text, "0 s after power-on: processors ran 1.2 s, read 0 KiB, wrote 0 KiB, console 17 B") {
			return
		}
	}
	t.Errorf("evidence %q, want one titled %q with the first sample", told.Evidence, progressTitle)
}
