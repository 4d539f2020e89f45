package integration

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Two belljars build one spec at once, with one store: both succeed, with the same artifact.
func TestTwoAtOnce(t *testing.T) {
	needMachines(t)
	t.Parallel()
	someImage(t)
	var two []*process
	for range 2 {
		b := onShared(t)
		two = append(two, b.start(nil, "build", b.spec("twin", tinySpec("twin")), "--json", "--no-cache"))
	}
	for _, p := range two {
		if o := p.wait(); o.code != 0 {
			t.Fatalf("exit code %d\n%s%s", o.code, o.tail(), o.stderr)
		}
		artifact := filepath.Join(p.b.cwd, "out", "twin", guest64, "rom.bin")
		if got := digestOf(t, artifact); got != digestOfText(string(tinyROM)) {
			t.Errorf("artifact: sha256 %s", got)
		}
		p.b.unlocked(p.run().path)
	}
	if two[0].run().ID == two[1].run().ID {
		t.Error("both are one run")
	}
}

// One waits for the other that makes the image. When that is killed, it goes on at once.
func TestClaimOfTheDead(t *testing.T) {
	needMachines(t)
	t.Parallel()
	b := onClone(t, "bundles", "kernels")
	image := []string{"image", "build", "seabios", "--guest", guest64, "--json", "--accel", "tcg"}
	first := b.start(nil, image...)
	first.awaitPhase("unpack")
	second := b.start(nil, image...)
	second.awaitText("another belljar is making this image")
	killed := time.Now()
	first.signal(syscall.SIGKILL)
	e := second.await("phase unpack", func(e event) bool { return e.Kind == "start" && e.Phase == "unpack" })
	if took := e.Time.Sub(killed); took > 5*time.Second {
		t.Errorf("it went on %s after the other's death", took)
	} else {
		t.Logf("it went on %s after the other's death", took.Round(time.Millisecond))
	}
	b.succeed("runs") // which sweeps what the first has left; the second began before it died
	interrupt(t, second)
}

// Two that need the same image make it once.
func TestSlowTwoMakeOneImage(t *testing.T) {
	needMachines(t)
	if os.Getenv("BELLJAR_SLOW") == "" {
		t.Skip("makes an image; BELLJAR_SLOW=1 runs it")
	}
	first := onClone(t, "bundles", "kernels")
	second := &belljar{t: t, dir: first.dir, cwd: t.TempDir()}
	var two []*process
	for _, b := range []*belljar{first, second} {
		two = append(two, b.start(nil, "build", b.spec("twin", tinySpec("twin")), "--json"))
	}
	made := 0
	for _, p := range two {
		o := p.wait()
		if o.code != 0 {
			t.Fatalf("exit code %d\n%s%s", o.code, o.tail(), o.stderr)
		}
		for _, e := range o.events {
			if e.Kind == "start" && e.Phase == "unpack" {
				made++
			}
		}
		artifact := filepath.Join(p.b.cwd, "out", "twin", guest64, "rom.bin")
		if got := digestOf(t, artifact); got != digestOfText(string(tinyROM)) {
			t.Errorf("artifact: sha256 %s", got)
		}
	}
	if made != 1 {
		t.Errorf("the image was made %d times, want once", made)
	}
}
