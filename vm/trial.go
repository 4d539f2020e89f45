package vm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/belljar/belljar/fault"
)

// Trial is a machine that is booted once under each accelerator to learn what they are worth on this host.
type Trial struct {
	Machine Machine                           // see ProbeMachine; its Accel does not matter
	Runs    string                            // the line that says that a kernel and a program run
	Done    string                            // the line after a fixed piece of work; empty if it does none
	Log     string                            // where the lines come: 'console' if empty
	Dir     func(name string) (string, error) // makes a machine's folder
	Unseen  bool                              // the backend's machines run on another host than this
	Wait    time.Duration                     // how long to wait for KVM, and twice that for both; 0 is TrialWait
}

// TrialWait is how long a trial machine may take under KVM. Where that works it needs about a second, under TCG three to
// five on an idle host. Both of them, and what else a decision takes, are over within 15 s.
const TrialWait = 6 * time.Second

// ProbeMachine is the least machine that proves KVM for machines like base: same type and CPU model, and a kernel whose
// initramfs prints its lines and powers off.
func ProbeMachine(base Machine, kernel, initrd string) Machine {
	return Machine{
		Name: "kvm-proof", Arch: base.Arch, Type: base.Type, CPU: base.CPU, CPUs: min(max(base.CPUs, 1), 2),
		Memory: 512 * mib, Clock: base.Clock, Accel: KVM, OnReset: ExitOnReset,
		Boot: Boot{Kernel: kernel, Initrd: initrd, Cmdline: "console=ttyS0 quiet panic=-1"},
	}
}

// FirmwareTrial is a trial with nothing but QEMU's own firmware, SeaBIOS: for when no kernel is at hand. It finds gross
// breakage only; a host that passes may still fail one with a kernel.
func FirmwareTrial(base Machine, dir func(name string) (string, error)) Trial {
	return Trial{
		Machine: Machine{
			Name: "kvm-quick-probe", Arch: base.Arch, Type: base.Type, CPU: base.CPU, CPUs: 1,
			Memory: 256 * mib, Clock: base.Clock, Accel: KVM, OnReset: ExitOnReset, DebugCon: true,
		},
		Log: "debugcon", Runs: "No bootable device", Dir: dir,
		// SeaBIOS finds nothing to boot after 0.1 s, under TCG too. Broken KVM was seen to take 3.6 s.
		Wait: 2 * time.Second,
	}
}

// Prove boots the trial's machine under KVM, then under TCG, and judges what came of it. A machine that dies, resets or
// stays silent is a proof of the contrary, not an error. Both machines are gone when Prove returns.
func (t Trial) Prove(ctx context.Context, b Backend) (Proof, error) {
	host := HostKVM{Unseen: true}
	if !t.Unseen {
		host = look()
	}
	if p := host.Judge(); p.Outcome != "" {
		return p, nil
	}
	if p, err := t.offers(ctx, b); p.Outcome != "" || err != nil {
		return p, err
	}
	wait := cmp.Or(t.Wait, TrialWait)
	kvm, err := t.Attempt(ctx, b, KVM, wait)
	if err != nil {
		return Proof{}, err
	}
	tcg, err := t.Attempt(ctx, b, TCG, 2*wait-min(kvm.Waited, wait))
	if err != nil {
		return Proof{}, err
	}
	return Classify(host, t.Machine.CPU, kvm, tcg), nil
}

// offers asks the backend whether it can have such a machine under KVM at all. What it lacks under TCG as well is no proof
// against KVM, but an error.
func (t Trial) offers(ctx context.Context, b Backend) (Proof, error) {
	m := t.Machine
	m.Accel = TCG
	if err := b.Preflight(ctx, m); err != nil {
		return Proof{}, err
	}
	m.Accel = KVM
	err := b.Preflight(ctx, m)
	if fault.KindOf(err) != fault.Host {
		return Proof{}, err
	}
	p := Proof{Outcome: NoVirtualisation, Reason: inner(err), Remedy: remedyUnseen}
	for _, f := range fault.Chain(err) {
		p.Remedy = cmp.Or(f.Remedy, p.Remedy)
	}
	return p, nil
}

// Attempt boots the trial's machine once, and waits for it so long. The error is for what says nothing of the accelerator: a cancelled context, or
// something else that the host lacks.
func (t Trial) Attempt(ctx context.Context, b Backend, accel Accel, wait time.Duration) (a Attempt, err error) {
	m := t.Machine
	m.Accel = accel
	dir, err := t.Dir(string(accel) + "-proof")
	if err != nil {
		return Attempt{}, err
	}
	start := time.Now()
	limited, cancel := context.WithTimeoutCause(ctx, wait, errTrialWait)
	defer cancel()
	defer func() {
		a.Waited = time.Since(start)
		if err == nil && ctx.Err() != nil { // the caller gave up: nothing is proven
			a, err = Attempt{}, context.Cause(ctx)
		}
	}()

	g, err := b.Start(limited, m, dir)
	switch {
	case err != nil && limited.Err() != nil:
		return Attempt{End: StaysSilent}, nil
	case fault.KindOf(err) == fault.Host:
		return Attempt{End: NeverBegan, Words: inner(err), Stderr: evidence(err)}, nil
	case err != nil:
		return Attempt{}, err
	}
	a, err = t.watch(g, start)
	if err == nil && a.End != SaidAll && limited.Err() == nil {
		a.End, a.Words = EndedAlone, fmt.Sprintf("it ended without saying %q", cmp.Or(t.Done, t.Runs))
		if e := g.Wait(); e != nil {
			a.Words, a.Stderr = inner(e), evidence(e)
		}
	}
	// The machine's life hangs on limited: it is killed now, its logs end, and no grace is given.
	cancel()
	g.Close()
	if a.End == StaysSilent {
		a.Stderr = stderrOf(g)
	}
	return a, err
}

var errTrialWait = errors.New("the trial's time is over")

// watch reads the machine's log until it has said all, or its end.
func (t Trial) watch(g Guest, start time.Time) (Attempt, error) {
	r := g.Console()
	if l, ok := g.(Logger); ok && t.Log != "" {
		r.Close()
		var err error
		if r, err = l.Log(t.Log); err != nil {
			return Attempt{}, err
		}
	}
	defer r.Close()
	a := Attempt{End: StaysSilent}
	s := &scanner{r: r}
	if !s.find(t.Runs) {
		return a, nil
	}
	a.Figure.Boot = time.Since(start)
	if t.Done != "" {
		if !s.find(t.Done) {
			return a, nil
		}
		a.Figure.Work = time.Since(start) - a.Figure.Boot
	}
	a.End = SaidAll
	return a, nil
}

// inner is a failure without the name of the trial's machine, which says nothing to people.
func inner(err error) string {
	if e, ok := errors.AsType[*fault.Error](err); ok && e.Err != nil {
		return e.Err.Error()
	}
	return err.Error()
}

// evidence is all that a failure brings along.
func evidence(err error) string {
	var all strings.Builder
	for _, f := range fault.Chain(err) {
		for _, e := range f.Evidence {
			all.WriteString(e.Text + "\n")
		}
	}
	return all.String()
}

// stderrOf is what QEMU said, of a machine that is gone; empty if the backend does not keep it.
func stderrOf(g Guest) string {
	l, ok := g.(Logger)
	if !ok {
		return ""
	}
	r, err := l.Log("stderr")
	if err != nil {
		return ""
	}
	defer r.Close()
	text, _ := io.ReadAll(io.LimitReader(r, 4<<10)) // what there is will do
	return string(text)
}

// scanner finds texts in a stream one after another, wherever its reads are cut.
type scanner struct {
	r    io.Reader
	kept string
}

// find reads until text has come, and keeps what follows it; false if the stream ends before.
func (s *scanner) find(text string) bool {
	buf := make([]byte, 4096)
	for {
		if _, after, ok := strings.Cut(s.kept, text); ok {
			s.kept = after
			return true
		}
		s.kept = s.kept[max(0, len(s.kept)-len(text)):]
		n, err := s.r.Read(buf)
		s.kept += string(buf[:n])
		if err != nil && n == 0 {
			return false
		}
	}
}
