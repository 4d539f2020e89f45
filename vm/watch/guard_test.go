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
	limits.Every = 10 * time.Second
	g := NewGuard(once{taken: cancel}, limits)
	if err := g.Watch(ctx, func(text string) { t.Errorf("noted: %s", text) }); err != nil {
		t.Fatal(err)
	}
	told := g.Explain(fault.New(fault.Host, "guest", "QEMU was ended by signal 9"), t.TempDir())
	for _, e := range told.Evidence {
		if e.Title == progressTitle && strings.Contains(e.Text, "1 s after power-on: processors ran 1.2 s, read 0 KiB, wrote 0 KiB, console 17 B") {
			return
		}
	}
	t.Errorf("evidence %q, want one titled %q with the first sample", told.Evidence, progressTitle)
}

// That a busy host's QEMU was silent at one sample is no news; that it goes on is, once.
func TestSilenceIsNews(t *testing.T) {
	g := NewGuard(nil, Limits{Held: 40 * time.Millisecond, Mute: time.Minute, Asleep: time.Minute, Busy: time.Minute, First: time.Minute})
	if f, news := g.take(vm.Progress{Mute: true}); news {
		t.Errorf("the first silent sample is news: %s", f.Text)
	}
	said := 0
	for range 3 {
		time.Sleep(50 * time.Millisecond)
		f, news := g.take(vm.Progress{Mute: true})
		if !strings.Contains(f.Text, "QEMU does not answer on its monitor") {
			t.Errorf("found %q, want that QEMU does not answer", f.Text)
		}
		if news {
			said++
		}
	}
	if said != 1 {
		t.Errorf("said %d times, want once", said)
	}
}
