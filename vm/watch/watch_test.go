package watch

import (
	"strings"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
)

var power = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// span is a stretch of a machine's life, sampled every three seconds: what each sample adds, and how it stands.
type span struct {
	samples  int
	add      vm.Progress // to the counters, at each sample
	as       vm.Progress // its other fields
	answers  bool        // before each sample
	complain string      // before each sample
}

var (
	asleep = vm.Progress{CPU: 60 * time.Millisecond} // 2 % of a processor: its timer ticks
	busy   = vm.Progress{CPU: 3 * time.Second}       // one processor, all the time
	works  = vm.Progress{CPU: 3 * time.Second, Console: 80, Ports: 100, Read: 1 << 20}
)

func TestWatchdog(t *testing.T) {
	for _, c := range []struct {
		name  string
		life  []span
		state State // of the first finding that ends it, else of the last
		after int   // the sample that ends it; 0: none does
		kind  fault.Kind
		want  string
	}{
		{"works", []span{{100, works, vm.Progress{}, true, ""}}, Works, 0, 0, ""},
		{"idle, and answers", []span{{100, asleep, vm.Progress{}, true, ""}}, Works, 0, 0, ""},
		{"computes without a word, and answers", []span{{300, busy, vm.Progress{}, true, ""}}, Works, 0, 0, ""},
		{"sleeps from the start", []span{{100, asleep, vm.Progress{}, false, ""}}, Asleep, 20, fault.Guest,
			"its processors have slept for 1m0s, no byte on console, disk or port; its last sign of life was its start, 1m0s ago"},
		{"sleeps after work", []span{{40, works, vm.Progress{}, true, ""}, {100, asleep, vm.Progress{}, false, ""}},
			Asleep, 60, fault.Guest, "its last sign of life was a byte over a port, 1m0s ago"},
		{"sleeps between two answers", []span{
			{10, works, vm.Progress{}, true, ""}, {19, asleep, vm.Progress{}, false, ""},
			{1, asleep, vm.Progress{}, true, ""}, {19, asleep, vm.Progress{}, false, ""},
		}, Works, 0, 0, ""},
		{"sleeps after long computing", []span{{1, works, vm.Progress{}, true, ""}, {25, busy, vm.Progress{}, false, ""},
			{100, asleep, vm.Progress{}, false, ""}}, Asleep, 41, fault.Guest, "none of its processors asked for more than 63 %"},
		{"sleeps on a busy host", []span{{1, works, vm.Progress{}, true, ""},
			{100, vm.Progress{CPU: 270 * time.Millisecond, Starved: 2200 * time.Millisecond, Demand: 1230 * time.Millisecond}, vm.Progress{}, false, ""}},
			Asleep, 41, fault.Guest, "it hangs: none of its processors asked for more than"},
		{"spins on a busy host", []span{{1, works, vm.Progress{}, true, ""},
			{100, vm.Progress{CPU: 300 * time.Millisecond, Starved: 3200 * time.Millisecond, Demand: 3 * time.Second}, vm.Progress{}, false, ""}},
			Works, 0, 0, ""},
		{"spins", []span{{1, works, vm.Progress{}, true, ""}, {200, busy, vm.Progress{}, false, ""}},
			Spins, 31, fault.Guest, "its processors ran for 1m30s of the last 1m30s, and nothing came of it"},
		{"spins from the start", []span{{100, busy, vm.Progress{}, false, ""}}, Spins, 20, fault.Guest,
			"its processors ran for 1m0s of the last 1m0s, and nothing came of it, no byte on console, disk or port; its last sign of life was its start"},
		{"spins, and its kernel says so", []span{{1, works, vm.Progress{}, true, ""},
			{100, vm.Progress{CPU: 3 * time.Second, Console: 99}, vm.Progress{}, false, "soft lockup - CPU#0 stuck"}},
			Spins, 21, fault.Guest, "; its kernel says: soft lockup - CPU#0 stuck"},
		{"a host too busy to run it", []span{{1, works, vm.Progress{}, true, ""},
			{29, vm.Progress{CPU: 30 * time.Millisecond, Starved: 2970 * time.Millisecond}, vm.Progress{}, false, ""},
			{1, works, vm.Progress{}, true, ""}}, Works, 0, 0, ""},
		{"a lockup that a busy host made up", []span{{1, works, vm.Progress{}, true, ""},
			{15, vm.Progress{CPU: time.Second, Starved: 2 * time.Second, Console: 99}, vm.Progress{}, false, "soft lockup"},
			{10, works, vm.Progress{}, true, ""}}, Works, 0, 0, ""},
		{"reads, and does not answer", []span{{1, works, vm.Progress{}, true, ""},
			{200, vm.Progress{CPU: time.Second, Read: 4096}, vm.Progress{}, false, ""}}, Works, 0, 0, ""},
		{"stopped", []span{{2, works, vm.Progress{}, true, ""}, {9, vm.Progress{}, vm.Progress{State: "T", Mute: true, PID: 42}, false, ""}},
			Held, 7, fault.Host, "QEMU (process 42) is stopped"},
		{"stopped for a moment", []span{{2, works, vm.Progress{}, true, ""},
			{3, vm.Progress{}, vm.Progress{State: "T", Mute: true, PID: 42}, false, ""}, {1, works, vm.Progress{}, true, ""}},
			Works, 0, 0, ""},
		{"what the host took is not the guest's", []span{{2, asleep, vm.Progress{}, true, ""},
			{19, asleep, vm.Progress{}, false, ""}, {3, vm.Progress{}, vm.Progress{State: "T"}, false, ""},
			{19, asleep, vm.Progress{}, false, ""}}, Works, 0, 0, ""},
		{"monitor silent", []span{{2, works, vm.Progress{}, true, ""}, {50, asleep, vm.Progress{State: "S", Mute: true}, false, ""}},
			Held, 23, fault.Host, "QEMU does not answer on its monitor, for 1m0s now"},
		{"monitor silent, the guest is not", []span{{50, works, vm.Progress{Mute: true}, false, ""}}, Works, 0, 0, ""},
		{"waits for the host's disk", []span{{2, works, vm.Progress{}, true, ""}, {50, asleep, vm.Progress{State: "D", PID: 42}, false, ""}},
			Held, 23, fault.Host, "QEMU (process 42) waits for the host's disk, for 1m0s now"},
		{"busy with the host's disk", []span{{50, works, vm.Progress{State: "D"}, true, ""}}, Works, 0, 0, ""},
		{"disk full", []span{{2, works, vm.Progress{}, true, ""}, {1, vm.Progress{}, vm.Progress{Halted: "io-error", Full: true}, false, ""}},
			Held, 3, fault.Host, "the host's disk is full"},
		{"disk broken", []span{{1, works, vm.Progress{Halted: "io-error"}, false, ""}}, Held, 1, fault.Host, "the host's disk failed"},
		{"KVM gave up", []span{{1, works, vm.Progress{Halted: "internal-error"}, false, ""}}, Held, 1, fault.Host, "accelerator"},
		{"paused by somebody", []span{{9, vm.Progress{}, vm.Progress{Halted: "paused"}, true, ""}}, Held, 5, fault.Host, `"paused"`},
		{"resets", []span{{3, vm.Progress{CPU: time.Second, Resets: 1}, vm.Progress{}, false, ""}}, Loops, 3, fault.Guest,
			"it starts over and over: 3 resets within 9s"},
		{"nothing is known, before it answered", []span{{100, vm.Progress{}, vm.Progress{}, false, ""}}, Works, 0, 0, ""},
		{"nothing is known but answers", []span{{9, vm.Progress{}, vm.Progress{}, true, ""}, {99, vm.Progress{}, vm.Progress{}, false, ""}},
			Asleep, 39, fault.Guest, "nothing came from it for 1m3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := Defaults(1)
			l.Resets = 2
			f, n := live(New(l, power), c.life)
			if f.Fault == nil {
				n = 0
			}
			if f.State != c.state || n != c.after || !strings.Contains(f.Text, c.want) {
				t.Fatalf("after %d samples %s: %q; want after %d %s: %q", n, f.State, f.Text, c.after, c.state, c.want)
			}
			if c.after > 0 && fault.KindOf(f.Fault) != c.kind {
				t.Errorf("kind %s, want %s", fault.KindOf(f.Fault), c.kind)
			}
			if c.kind == fault.Host && fault.Chain(f.Fault)[0].Remedy == "" {
				t.Error("a host fault without a remedy")
			}
		})
	}
}

// live plays a machine's life up to the first finding that ends it, and says which sample that was.
func live(w *Watchdog, life []span) (f Finding, n int) {
	var sum vm.Progress
	for _, s := range life {
		for range s.samples {
			n++
			at := power.Add(time.Duration(n) * 3 * time.Second)
			if s.answers {
				w.Answered(at.Add(-time.Second))
			}
			if s.complain != "" {
				w.Complained(s.complain)
			}
			p := s.as
			sum.CPU += s.add.CPU
			sum.Starved += s.add.Starved
			sum.Demand += s.add.Demand
			sum.Console += s.add.Console
			sum.Ports += s.add.Ports
			sum.Read += s.add.Read
			sum.Resets += s.add.Resets
			p.CPU, p.Starved, p.Demand, p.Console, p.Ports, p.Read, p.Resets = sum.CPU, sum.Starved, sum.Demand, sum.Console, sum.Ports, sum.Read, sum.Resets
			if f = w.Sample(at, p); f.Fault != nil {
				return f, n
			}
		}
	}
	return f, n
}

// What a standstill looks like from outside.
func TestProcessors(t *testing.T) {
	for _, c := range []struct {
		p    vm.Progress
		want string
	}{
		{vm.Progress{}, ""},
		{vm.Progress{CPU: 20 * time.Millisecond}, "its processor sleeps"},
		{vm.Progress{CPU: 9 * time.Second}, "its processor ran for 9.0 s of the last 10.0 s"},
		{vm.Progress{CPU: 20 * time.Millisecond, Starved: 9500 * time.Millisecond},
			"its processor ran for 0.0 s of the last 10.0 s, and waited for the host's for 9.5 s"},
	} {
		w := New(Defaults(1), power)
		w.Sample(power.Add(10*time.Second), c.p)
		if got := w.processors(w.last()); got != c.want {
			t.Errorf("%+v: %q, want %q", c.p, got, c.want)
		}
	}
}

// A machine that is slow is told so once, and again only after it has answered.
func TestSlowIsSaidOnce(t *testing.T) {
	w := New(Defaults(1), power)
	said := 0
	for n := 1; n <= 200; n++ {
		at := power.Add(time.Duration(n) * 3 * time.Second)
		if n == 1 || n == 100 {
			w.Answered(at)
		}
		f := w.Sample(at, vm.Progress{CPU: time.Duration(n) * time.Second, Read: int64(n) << 20})
		if f.Fault != nil {
			t.Fatal(f.Fault)
		}
		if f.State == Slow {
			said++
			if want := "no answer for 30s; it is at work (a read from a disk)"; f.Text != want {
				t.Errorf("said %q, want %q", f.Text, want)
			}
		}
	}
	if said != 2 {
		t.Errorf("said %d times that it is slow, want 2", said)
	}
}

// A backend that knows nothing of its machines says no more than that no answer came.
func TestSlowAndUnknown(t *testing.T) {
	w := New(Defaults(1), power)
	w.Answered(power)
	if f := w.Sample(power.Add(33*time.Second), vm.Progress{}); f.State != Slow || f.Text != "no answer for 33s" {
		t.Errorf("got %+v", f)
	}
}

// Only what the processors have to do takes longer without KVM.
func TestDefaults(t *testing.T) {
	fast, slow, none := Defaults(1), Defaults(vm.TCGPace), Defaults(0)
	if slower := Defaults(4 * vm.TCGPace); slower != slow { // a busy host's: its processors work no slower
		t.Errorf("slow %+v\nslower %+v", slow, slower)
	}
	if fast.Busy != 90*time.Second || slow.Busy != 5*time.Minute || slow.Asleep != fast.Asleep || slow.Held != fast.Held || none != fast {
		t.Errorf("fast %+v\nslow %+v\nno pace %+v", fast, slow, none)
	}
}
