// Package watch knows how to tell a machine that hangs from one that is slow, and both from a host that holds it up.
//
// It judges progress, not time alone: what the processors did, what moved on disks, console and ports, and when
// something in the machine last answered. The judge (Watchdog) is a pure state machine over samples; the Guard takes the
// samples of a running guest and keeps time.
//
// It refuses to know what runs in the machine and what it is asked: an answer is whatever sign of life the caller vouches
// for.
package watch

import (
	"fmt"
	"strings"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
)

// Limits are how long each kind of standstill may last.
type Limits struct {
	Every  time.Duration // between two samples
	Slow   time.Duration // no answer, while something else goes on: said once, and waited for
	Asleep time.Duration // no answer, nothing moves, and the processors sleep
	Busy   time.Duration // no answer and nothing moves, while the processors run; counted in time that they ran
	First  time.Duration // likewise, of a machine of which nothing has come yet
	Held   time.Duration // the host has stopped the machine's process, or paused the machine
	Mute   time.Duration // what runs the machine does not answer
	Resets int           // how often the machine may be reset from inside; negative: as often as it likes
}

// Defaults are the limits on a host of that pace. Only what counts the processors' work grows with it, and there is room
// in it: a guest that sleeps is not held up by its emulation. It grows no further than with emulation's own pace: what a
// busy host adds to that is time in which the processors did not run.
func Defaults(pace vm.Pace) Limits {
	return Limits{
		Every: 3 * time.Second, Slow: 30 * time.Second, Asleep: 60 * time.Second,
		Busy: max(90*time.Second, min(pace, vm.TCGPace).Of(30*time.Second)), First: 60 * time.Second,
		Held: 10 * time.Second, Mute: 60 * time.Second, Resets: -1,
	}
}

// State is what a machine does, as far as the watchdog can tell.
type State string

// The states. The last four end a machine.
const (
	Works  State = "works"
	Slow   State = "slow"   // it does something, but has not answered for long
	Asleep State = "asleep" // it waits for something that will not come
	Spins  State = "spins"  // its processors run in a circle
	Held   State = "held"   // the host holds it up
	Loops  State = "loops"  // it starts over and over
)

// Finding is what a sample showed.
type Finding struct {
	State State
	Text  string // for people; empty when it works
	Fault error  // *fault.Error of kind Guest or Host: the machine is beyond hope; nil: it may go on
}

// moment is a sample and when it was taken.
type moment struct {
	at time.Time
	vm.Progress
}

// Watchdog judges a machine by samples of its progress, in the order in which they were taken. It is not safe for
// concurrent use.
type Watchdog struct {
	limits Limits
	start  time.Time
	window []moment // the samples as far back as they matter

	answered  time.Time // the last answer; zero: none yet
	moved     moment    // the last sample in which anything went on, or the start
	what      string    // what went on then
	complaint string    // what its kernel last said against itself since it moved; empty: nothing
	grumbled  bool      // it said so since the last sample
	alive     bool      // anything went on since the last sample
	held      time.Time // since when the host has held it up; zero: it does not
	mute      time.Time // since when what runs it has not answered; zero: it does
	said      bool      // that it is slow
}

// New watches a machine that was switched on at start.
func New(l Limits, start time.Time) *Watchdog {
	first := moment{at: start}
	return &Watchdog{limits: l, start: start, window: []moment{first}, moved: first, what: "its start"}
}

// Answered notes that something in the machine answered.
func (w *Watchdog) Answered(at time.Time) {
	w.answered, w.said = at, false
	w.mark(moment{at, w.last().Progress}, "an answer")
}

// Complained notes a line in which the machine's kernel doubts that it gets on. It is not taken for progress, and makes
// the limit for a machine that spins as short as for one that sleeps.
func (w *Watchdog) Complained(line string) { w.complaint, w.grumbled = line, true }

func (w *Watchdog) last() moment { return w.window[len(w.window)-1] }

// mark notes that something went on.
func (w *Watchdog) mark(m moment, what string) {
	w.moved, w.what, w.complaint, w.alive = m, what, "", true
}

// Sample judges a sample.
func (w *Watchdog) Sample(at time.Time, p vm.Progress) Finding {
	now, before := moment{at, p}, w.last()
	w.keep(now)
	if what := moves(before.Progress, p, w.grumbled); what != "" {
		w.mark(now, what)
	}
	alive := w.alive
	w.grumbled, w.alive = false, false
	if f := w.host(now, alive); f.State == Held {
		return f
	}
	return w.guest(now)
}

// keep adds a sample to the window, and drops those that are too old to matter.
func (w *Watchdog) keep(now moment) {
	w.window = append(w.window, now)
	for len(w.window) > 2 && now.at.Sub(w.window[1].at) >= drowsyTimes*w.limits.Asleep {
		w.window = w.window[1:]
	}
}

// moves says what went on between two samples; empty if nothing did.
func moves(a, b vm.Progress, grumbled bool) string {
	switch {
	case b.Ports > a.Ports:
		return "a byte over a port"
	case b.Console > a.Console && !grumbled:
		return "a byte on the console"
	case b.Written > a.Written:
		return "a write to a disk"
	case b.Read > a.Read:
		return "a read from a disk"
	}
	return ""
}

// host judges what the host does to the machine. While it holds it up, no time counts against the guest.
func (w *Watchdog) host(now moment, alive bool) Finding {
	held := reason(now.Progress)
	mute := !alive && (now.Mute || now.State == "D") // a machine that gets on may well wait for the disk in between
	w.held, w.mute = since(w.held, held != nil, now.at), since(w.mute, mute, now.at)
	if held == nil && !mute {
		return Finding{}
	}
	w.moved.at, w.moved.Progress = now.at, now.Progress
	w.window = append(w.window[:0], now)
	switch {
	case held != nil && (held.final || now.at.Sub(w.held) >= w.limits.Held):
		return Finding{Held, held.text, fault.New(fault.Host, "guest", "%s", held.text).WithRemedy("%s", held.remedy)}
	case held != nil:
		return Finding{State: Held, Text: held.text}
	}
	text := "QEMU does not answer on its monitor"
	remedy := "the host is overloaded, or QEMU hangs: look at what the host does (top, dmesg), and begin again"
	if now.State == "D" {
		text = fmt.Sprintf("QEMU (process %d) waits for the host's disk", now.PID)
		remedy = "look for a failing or overloaded disk (dmesg, iostat), or give a folder on another with --dir"
	}
	text = fmt.Sprintf("%s, for %s now", text, round(now.at.Sub(w.mute)))
	if now.at.Sub(w.mute) >= w.limits.Mute {
		return Finding{Held, text, fault.New(fault.Host, "guest", "%s", text).WithRemedy("%s", remedy)}
	}
	if now.at.Sub(w.mute) < w.limits.Held { // a busy host's: not worth a word
		return Finding{State: Held}
	}
	return Finding{State: Held, Text: text}
}

func since(t time.Time, now bool, at time.Time) time.Time {
	switch {
	case !now:
		return time.Time{}
	case t.IsZero():
		return at
	}
	return t
}

// hold is a way in which the host holds a machine up.
type hold struct {
	text, remedy string
	final        bool // it does not end by itself
}

// reason says how the host holds a machine up; nil if it does not.
func reason(p vm.Progress) *hold {
	switch {
	case p.Full:
		return &hold{"QEMU halted the machine: the host's disk is full",
			"make room on the disk of Belljar's folder (belljar clean does), or give another folder with --dir", true}
	case p.Halted == "io-error":
		return &hold{"QEMU halted the machine: the host's disk failed",
			"look for errors of the disk of Belljar's folder (dmesg), or give another folder with --dir", true}
	case p.Halted == "internal-error":
		return &hold{"QEMU halted the machine: the accelerator could not go on",
			"look into the host's kernel log (dmesg); --accel tcg does without KVM", true}
	case p.Halted != "":
		return &hold{fmt.Sprintf("the machine is halted (QEMU says %q)", p.Halted),
			"let nobody else use the machine's monitor; the same command again starts a new machine", false}
	case p.State == "T", p.State == "t":
		return &hold{fmt.Sprintf("QEMU (process %d) is stopped: somebody sent it SIGSTOP, or traces it", p.PID),
			"find out who stops processes here (a job scheduler, a debugger); the same command again starts a new machine",
			false}
	}
	return nil
}

// A machine that sleeps still ticks, some hundred times a second. On an idle host that takes some hundredths of a
// processor. On one that is busy with thirty other things, each tick waits for its turn, and two fifths were seen; one that
// spins asks for all of it there too. What lies between is given twice the time.
const (
	asleepShare = 0.1
	drowsyShare = 0.7
	drowsyTimes = 2
)

// guest judges what the guest does.
func (w *Watchdog) guest(now moment) Finding {
	if w.limits.Resets >= 0 && now.Resets > w.limits.Resets {
		text := fmt.Sprintf("it starts over and over: %d resets within %s", now.Resets, round(now.at.Sub(w.start)))
		return Finding{Loops, text, fault.New(fault.Guest, "guest", "%s", text)}
	}
	still, ran := now.at.Sub(w.moved.at), now.CPU-w.moved.CPU
	busy := w.limits.Busy
	if w.moved.at.Equal(w.start) { // a kernel says its first word after some seconds of work, emulated or not
		busy = w.limits.First
	}
	if w.complaint != "" {
		busy = min(busy, w.limits.Asleep)
	}
	switch {
	case now.CPU == 0: // the backend does not know what they did: time alone counts, and only once it has answered
		if still >= busy && !w.answered.IsZero() {
			return w.hangs(Asleep, now, "nothing came from it for "+round(still))
		}
	case still >= w.limits.Asleep && w.share(w.limits.Asleep) < asleepShare:
		return w.hangs(Asleep, now, "its processors have slept for "+round(still))
	case still >= drowsyTimes*w.limits.Asleep && w.share(drowsyTimes*w.limits.Asleep) < drowsyShare:
		return w.hangs(Asleep, now, fmt.Sprintf("none of its processors asked for more than %.0f %% of one of the host's for %s",
			100*w.share(drowsyTimes*w.limits.Asleep), round(still)))
	case still >= busy && ran >= busy:
		return w.hangs(Spins, now, fmt.Sprintf("its processors ran for %s of the last %s, and nothing came of it",
			round(ran), round(still)))
	}
	if silent := now.at.Sub(w.answered); !w.answered.IsZero() && silent >= w.limits.Slow && !w.said {
		w.said = true
		text := "no answer for " + round(silent)
		if doing := w.doing(now); doing != "" {
			text += "; " + doing
		}
		return Finding{State: Slow, Text: text}
	}
	return Finding{State: Works}
}

// share is which part of the last stretch its busiest processor ran, or would have run; 1 if it was not watched as long.
func (w *Watchdog) share(stretch time.Duration) float64 {
	last := w.last()
	for i := len(w.window) - 1; i >= 0; i-- {
		first := w.window[i]
		if span := last.at.Sub(first.at); span >= stretch && span > 0 {
			return float64(demand(last.Progress)-demand(first.Progress)) / float64(span)
		}
	}
	return 1
}

// demand falls back on what all processors ran together, where the backend does not know the busiest.
func demand(p vm.Progress) time.Duration {
	if p.Demand == 0 {
		return p.CPU + p.Starved
	}
	return p.Demand
}

// doing says what a machine that does not answer does instead.
func (w *Watchdog) doing(now moment) string {
	if now.at.Sub(w.moved.at) < 2*w.limits.Every {
		return "it is at work (" + w.what + ")"
	}
	return w.processors(w.last())
}

// processors says what the processors have done since anything else went on; empty if that is not known.
func (w *Watchdog) processors(now moment) string {
	still := now.at.Sub(w.moved.at)
	if still <= 0 || now.CPU == 0 {
		return ""
	}
	ran, starved := now.CPU-w.moved.CPU, now.Starved-w.moved.Starved
	share := func(d time.Duration) float64 { return float64(d) / float64(still) }
	if share(demand(now.Progress)-demand(w.moved.Progress)) < asleepShare {
		return "its processor sleeps"
	}
	text := fmt.Sprintf("its processor ran for %.1f s of the last %.1f s", ran.Seconds(), still.Seconds())
	if share(starved) >= asleepShare {
		text += fmt.Sprintf(", and waited for the host's for %.1f s", starved.Seconds())
	}
	return text
}

// hangs is the fault of a guest that stands still, with all that was seen.
func (w *Watchdog) hangs(s State, now moment, how string) Finding {
	var b strings.Builder
	fmt.Fprintf(&b, "it hangs: %s, no byte on console, disk or port; its last sign of life was %s, %s ago",
		how, w.what, round(now.at.Sub(w.moved.at)))
	if w.complaint != "" {
		fmt.Fprintf(&b, "; its kernel says: %s", w.complaint)
	}
	return Finding{s, b.String(), fault.New(fault.Guest, "guest", "%s", b.String())}
}

func round(d time.Duration) string { return d.Round(time.Second).String() }
