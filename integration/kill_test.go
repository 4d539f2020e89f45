package integration

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belljar/belljar/vm/vmtest"
)

// someImage sees to it that the image of the specs of these tests is at hand.
func someImage(t testing.TB) {
	t.Helper()
	onShared(t).succeed("image", "build", "seabios", "--guest", guest64)
}

// goneTime is how long anything of a belljar that was killed may go on.
const goneTime = 2 * time.Second

// tinyROM says a line on the serial console, and is written by printf and dd.
var tinyROM = vmtest.ROM("the tiny ROM is alive", vmtest.Hang)

// tinySpec goes through every phase of a build in a few seconds: its stage writes tinyROM, which its smoke test boots.
func tinySpec(name string) string {
	var script strings.Builder
	fmt.Fprintf(&script, "      head -c %d /dev/zero >$OUT/rom.bin\n", len(tinyROM))
	for at := 0; at < len(tinyROM); { // the runs of bytes that are not zero
		n := bytes.IndexByte(append(tinyROM[at:], 0), 0)
		if n > 0 {
			var octal strings.Builder
			for _, c := range tinyROM[at : at+n] {
				fmt.Fprintf(&octal, `\%03o`, c)
			}
			fmt.Fprintf(&script, "      printf '%s' | dd of=$OUT/rom.bin bs=1 seek=%d conv=notrunc status=none\n", octal.String(), at)
		}
		at += n + 1
	}
	script.WriteString("      for i in 1 2 3 4; do echo tick $i; sleep 0.3; done\n")
	text := toySpec(name, strings.TrimSuffix(script.String(), "\n"))
	return strings.Replace(text, "smoke: []\n", `smoke:
  - {name: q35, artifact: rom.bin, machine: pc-q35-6.2, expect: ['the tiny ROM is alive'], silence: 2m, timeout: 5m}
`, 1)
}

// killing is a folder in which belljars are killed, and all that they may write to.
type killing struct {
	*belljar
	temp string // their $TMPDIR
}

func newKilling(t *testing.T, kinds ...string) *killing {
	k := &killing{belljar: onClone(t, kinds...), temp: t.TempDir()}
	k.env = append(k.env, "TMPDIR="+k.temp)
	return k
}

// kill sends SIGKILL, and says how long it took until nothing was left of the process and its children, and whether it
// was that of which the process died.
func (k *killing) kill(p *process) (took time.Duration, killed bool) {
	k.t.Helper()
	sent := time.Now()
	_ = p.cmd.Process.Signal(syscall.SIGKILL) // it may be over already
	killed = p.waitFor(cleanUpTime).code == -1
	var left []string
	for {
		if left = processesOf(k.dir); len(left) == 0 {
			return time.Since(sent), killed
		}
		if time.Since(sent) > goneTime {
			k.t.Errorf("%s after SIGKILL there is still:\n%s", goneTime, strings.Join(left, "\n"))
			return time.Since(sent), killed
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// processesOf are the processes that have to do with a folder: that work in it, or have it on their command line or, as
// a supervisor has, in their environment.
func processesOf(folder string) []string {
	var found []string
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, proc := range procs {
		cwd, _ := os.Readlink(filepath.Join(proc, "cwd"))
		cmdline, _ := os.ReadFile(filepath.Join(proc, "cmdline"))
		environ, _ := os.ReadFile(filepath.Join(proc, "environ"))
		for _, text := range []string{cwd + "/", string(cmdline), string(environ)} {
			if strings.Contains(text, folder+"/") {
				found = append(found, fmt.Sprintf("%s: %.300q in %s", filepath.Base(proc), cmdline, cwd))
				break
			}
		}
	}
	return found
}

// nothingOutside says that a killed belljar left nothing but, at most, what lies in its run's folder: no mount, no
// socket, no temporary file, wherever it may write.
func (k *killing) nothingOutside() {
	k.t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(k.t, err)
	for _, line := range strings.Split(string(mounts), "\n") {
		if strings.Contains(line, k.dir) || strings.Contains(line, k.cwd) {
			k.t.Errorf("left mounted: %s", line)
		}
	}
	for _, root := range []string{k.temp, k.cwd, k.dir, "/dev/shm"} {
		must(k.t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			switch rel, _ := filepath.Rel(k.dir, path); {
			case err != nil:
				return nil //nolint:nilerr // another test's, which has gone
			case rel == "runs" || strings.HasPrefix(rel, filepath.Join("store", "tmp")):
				return fs.SkipDir // swept by the next call: see swept
			case root == k.temp && path != root, root == "/dev/shm" && strings.Contains(d.Name(), "belljar"):
				k.t.Errorf("left: %s", path)
			case d.Type()&(fs.ModeSocket|fs.ModeNamedPipe) != 0, strings.Contains(d.Name(), ".belljar-"):
				k.t.Errorf("left: %s (%s)", path, d.Type())
			}
			return nil
		}))
	}
}

// swept has the next call, whichever it is, clean up.
func (k *killing) swept() {
	k.t.Helper()
	var list struct {
		Runs []struct{ ID, State string }
	}
	k.succeed("runs", "--json").result(k.t, &list)
	for _, r := range list.Runs {
		if r.State == "running" {
			k.t.Errorf("%s runs", r.ID)
		}
		noDisks(k.t, filepath.Join(k.dir, "runs", r.ID))
		k.unlocked(filepath.Join(k.dir, "runs", r.ID))
	}
	if claims, _ := filepath.Glob(filepath.Join(k.dir, "store", "claims", "*")); len(claims) > 0 {
		k.t.Errorf("left claimed: %q", claims)
	}
}

// complete does the build, all of it, on what the killed ones have left.
func (k *killing) complete(spec, name string) {
	k.t.Helper()
	must(k.t, os.RemoveAll(filepath.Join(k.cwd, "out")))
	k.succeed("build", spec, "--json", "--no-cache")
	got, err := os.ReadFile(filepath.Join(k.cwd, "out", name, guest64, "rom.bin"))
	must(k.t, err)
	if !bytes.Equal(got, tinyROM) {
		k.t.Errorf("the artifact is not what the stage writes: %d bytes", len(got))
	}
}

// instant is a moment of a build: so long after its n-th milestone. A build that is slower than the one whose
// milestones were measured is hit in the same part all the same.
type instant struct {
	after int // milestones; 0 is its start
	delay time.Duration
}

// milestones are the events that every build of a spec has, in the same order, whether its guest boots or is restored.
func milestones(events []event) []event {
	var all []event
	for _, e := range events {
		if e.Kind == "start" || e.Kind == "end" || strings.HasPrefix(e.Text, "tick ") {
			all = append(all, e)
		}
	}
	return all
}

// measure has builds go through, and gives the milestones of the third and when each of them came: the first is alone in
// booting its guest from power-on, the second in saving a guest's state for those after it (docs/boot.md).
func (k *killing) measure(args ...string) (all []event, at []time.Duration) {
	k.t.Helper()
	k.succeed(args...)
	k.succeed(args...)
	return k.measureOnce(args...)
}

func (k *killing) measureOnce(args ...string) (all []event, at []time.Duration) {
	k.t.Helper()
	p := k.start(nil, args...)
	o := p.wait()
	if o.code != 0 {
		k.t.Fatalf("exit code %d\n%s%s", o.code, o.tail(), o.stderr)
	}
	all = milestones(o.events)
	at = []time.Duration{0}
	for _, e := range all {
		at = append(at, e.Time.Sub(p.began))
	}
	at = append(at, o.took)
	return all, at
}

// spread gives n instants, evenly over a build, or over the part of it from one time on.
func spread(n int, from time.Duration, at []time.Duration) []instant {
	var all []instant
	end := at[len(at)-1]
	for i := range n {
		t := from + (end-from)*time.Duration(2*i+1)/time.Duration(2*n)
		after := 0
		for after+1 < len(at)-1 && at[after+1] <= t {
			after++
		}
		all = append(all, instant{after, t - at[after]})
	}
	return all
}

// killAt starts a build and kills it at an instant. Should the build be quicker than the one that was measured, so that
// there is nothing to kill, it is tried again, nearer to the milestone.
func (k *killing) killAt(in instant, args ...string) {
	k.t.Helper()
	for range 4 {
		p := k.start(nil, args...)
		doing := p.awaitMilestone(in.after)
		select {
		case <-time.After(in.delay):
		case <-p.done:
		}
		took, killed := k.kill(p)
		k.nothingOutside()
		if killed {
			k.t.Logf("%s + %s: all gone after %s", doing, in.delay.Round(time.Millisecond), took.Round(time.Millisecond))
			return
		}
		in.delay /= 2
	}
	k.t.Errorf("nothing was killed after milestone %d", in.after)
}

// awaitMilestone waits for the n-th, or the end, and says what it is.
func (p *process) awaitMilestone(n int) string {
	p.t.Helper()
	if n == 0 {
		return "the start"
	}
	late := time.After(patience)
	for {
		p.mu.Lock()
		all, news := milestones(p.events), p.news
		p.mu.Unlock()
		if len(all) >= n {
			e := all[n-1]
			return strings.Join(strings.Fields(e.Phase+" "+e.Name+" "+e.Kind+" "+e.Text), " ")
		}
		select {
		case <-news:
		case <-p.done:
			return "the end"
		case <-late:
			p.t.Fatalf("no milestone %d within %s", n, patience)
		}
	}
}

// firstOf is the index of the first milestone that fits, for an instant right after it.
func firstOf(t *testing.T, all []event, kind, phase string) instant {
	t.Helper()
	for i, e := range all {
		if e.Kind == kind && e.Phase == phase {
			return instant{i + 1, 0}
		}
	}
	t.Fatalf("no %s of %s", kind, phase)
	return instant{}
}

// SIGKILL in every part of a build leaves nothing that the next call does not sweep, and the build can be completed.
// TestSlowSIGKILL does the same at thirty instants.
func TestSIGKILL(t *testing.T) {
	needMachines(t)
	someImage(t)
	k := newKilling(t, "bundles", "images", "kernels")
	spec := k.spec("killed", tinySpec("killed"))
	build := []string{"build", spec, "--json", "--no-cache"}
	all, at := k.measure(build...)
	t.Logf("a build takes %s", at[len(at)-1].Round(time.Millisecond))
	for _, in := range []instant{
		{0, 50 * time.Millisecond},
		{firstOf(t, all, "start", "boot").after, 500 * time.Millisecond},
		firstOf(t, all, "log", "stage"),
		firstOf(t, all, "end", "stage"),
		{firstOf(t, all, "start", "smoke").after, 100 * time.Millisecond},
		firstOf(t, all, "end", "smoke"), // hands over
	} {
		k.killAt(in, build...)
		k.swept()
	}
	k.complete(spec, "killed")
	k.nothingOutside()
}
