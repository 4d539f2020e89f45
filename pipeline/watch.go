package pipeline

import (
	"context"
	"path/filepath"
	"regexp"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/console"
	"github.com/belljar/belljar/vm/watch"
)

// watch watches a guest from its start to its end: its console for last words, and its progress. What is found ends the
// guest's context.
func (h *house) watch(g *booted, phase Phase, name string) {
	g.guard = watch.NewGuard(g.guest, h.limits(h.pace))
	go g.watchConsole(func(line string) {
		g.trail.line(line)
		h.report(Event{Kind: LogLine, Phase: phase, Name: name, Text: line})
	})
	guarded, unguard := context.WithCancel(g.ctx)
	g.unguard = unguard
	go func() {
		err := g.guard.Watch(guarded, func(text string) {
			h.report(Event{Kind: Warning, Phase: phase, Name: name, Text: "guest of " + filepath.Base(g.dir) + ": " + text})
		})
		if err != nil {
			g.stop(err)
		}
	}()
}

// pulseEvery is how often a guest is asked for a sign of life. Once in some forty emulated guests was seen to stand still
// for ever with nothing on its console: its processor slept, its timer ticked, and what the host had sent over
// virtio-serial lay there unread. A busy one answers within seconds.
const pulseEvery = 3 * time.Second

// pulse asks the guest for signs of life; what it means that none comes, the guard judges. The questions also wake a
// guest that has missed an interrupt.
func (g *booted) pulse(ping func(context.Context) error) {
	for ping(g.ctx) == nil { // else the connection broke, and whoever uses it says so
		g.guard.Answered()
		select {
		case <-g.ctx.Done():
		case <-time.After(pulseEvery):
		}
	}
}

// watchConsole reads the console to its end and cancels the guest's context when it shows trouble, or ends.
func (g *booted) watchConsole(line func(string)) {
	defer close(g.read)
	r := g.guest.Console()
	defer r.Close()
	lost := ""
	err := console.Lines(g.ctx, r, func(l string) {
		line(l)
		if g.bad.Load() == nil && corruptBlock.MatchString(l) {
			bad := &corruption{l}
			g.bad.Store(bad)
			g.stop(bad)
		}
		if g.hear(l) && lost == "" {
			lost = l
			// The lines that follow a panic say where it was: leave the kernel a moment to print them.
			time.AfterFunc(500*time.Millisecond, func() { g.stop(lastWords(l)) })
		}
	})
	switch {
	case lost != "":
		g.stop(lastWords(lost)) // there is no more to wait for
	case err == nil:
		g.stop(gone(g.guest))
	}
}

func lastWords(line string) error {
	return fault.New(fault.Guest, "guest", "its console says: %s", line)
}

// initFailed are the last words of Belljar's own init.
var initFailed = regexp.MustCompile(`belljar: FATAL`)

// hear takes a line of the console; lost says that nothing good comes after it.
func (g *booted) hear(line string) (lost bool) {
	switch console.LinuxTrouble(line) {
	case console.Lost:
		return true
	case console.Doubt:
		g.guard.Complained(line)
	case console.OutOfMemory:
		g.oom.Store(&line)
	case console.None:
	}
	return initFailed.MatchString(line)
}

// gone says why the machine ended: QEMU's own death is the host's fault.
func gone(g vm.Guest) error {
	if err := g.Wait(); err != nil {
		return err
	}
	return fault.New(fault.Guest, "guest", "it went away")
}

// explain replaces an error that is only a consequence by its cause, and adds what the guest's side printed.
func (g *booted) explain(err error) error {
	kind := fault.KindOf(err)
	if kind != fault.Guest && kind != fault.Host && kind != fault.Unknown {
		return g.starved(kind, err) // the build's own, whatever became of the guest since
	}
	g.settle()
	if g.parent.Err() != nil {
		return cause(g.parent, err)
	}
	why := cause(g.ctx, err)
	kind = fault.KindOf(why)
	if kind == fault.Unknown {
		kind = fault.Guest
	}
	e := fault.New(kind, filepath.Base(g.dir), "%w", g.starved(kind, why))
	if why != err { //nolint:errorlint // the consequence itself: what it knows (a stage's last lines) is worth telling
		for _, part := range fault.Chain(err) {
			e.Evidence = append(e.Evidence, part.Evidence...)
		}
	}
	return g.guard.Explain(e, g.dir)
}

// starved says of a failure that the guest's kernel had killed a process for want of memory, if it had. The build's
// own word for that is often no more than 'Killed'.
func (g *booted) starved(kind fault.Kind, err error) error {
	line := g.oom.Load()
	if line == nil {
		return err
	}
	return fault.New(kind, "", "%w; before that the guest ran out of memory: %s", err, *line).
		WithRemedy("give the stage more memory ('memory' in the spec), or let the build run fewer jobs at once")
}

// settle waits a moment for what the console has to say: a panic breaks the connection before its line has been read.
func (g *booted) settle() {
	select {
	case <-g.ctx.Done():
	case <-time.After(time.Second):
	}
}
