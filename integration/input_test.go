package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Specs, locks and folders that are wrong. Each script is one kind.
func TestBadInput(t *testing.T) {
	needMachines(t)
	rom(t) // the scripts find seabios built
	runScripts(t, "input-*.txtar")
}

// A byte of a stored package changes under our feet: nothing is built with it, and fetch mends it.
func TestDamagedObject(t *testing.T) {
	needMachines(t)
	f := smallestPackage(t)
	b := onClone(t, "bundles", "images")
	spec := quickFailure(b)
	object := objectPath(b.dir, f.sha256)
	must(t, os.Remove(object)) // it is a link to the shared one
	must(t, os.WriteFile(object, flipped(f.data), 0o444))

	fail := b.exit(3, "build", spec, "--offline", "--json", "--accel", "tcg").failure(t)
	contains(t, "failure", fail.all(), f.name+"_", f.sha256, "is damaged", "moved aside to", "belljar fetch")
	noMachine(t, b.dir, 0)
	// It is missing now, and said so.
	fail = b.exit(3, "build", spec, "--offline", "--json", "--accel", "tcg").failure(t)
	contains(t, "failure", fail.all(), "the store lacks 1 of", f.name+"_", "belljar fetch "+spec)

	var r struct{ Fetched int }
	url := serveMirror(t, f.pool, content(f.data))
	b.succeed("fetch", spec, "--json", "--mirror", url).result(t, &r)
	if r.Fetched != 1 || digestOf(t, object) != f.sha256 {
		t.Errorf("fetched %d files, want 1; in the store: %s", r.Fetched, digestOf(t, object))
	}
	b.exit(6, "build", spec, "--offline", "--accel", "tcg") // far enough to run the script
}

// A byte of the ROM in the store changes: the cache does not answer with it.
func TestDamagedResult(t *testing.T) {
	needMachines(t)
	r := buildSeaBIOS(t, onShared(t), guest64)
	b := onClone(t, "builds")
	object := objectPath(b.dir, r.Artifacts[0].SHA256)
	data, err := os.ReadFile(object)
	must(t, err)
	must(t, os.Remove(object))
	must(t, os.WriteFile(object, flipped(data), 0o444))
	p := b.start(nil, "build", "seabios", "--json", "--accel", "tcg")
	p.awaitText("building it again")
	p.awaitPhase("unpack") // it does
	interrupt(t, p)
}

// The disk is full: the fault is the host's, says so, and leaves nothing half-written.
func TestDiskFull(t *testing.T) {
	needMachines(t)
	rom(t)
	t.Run("under the store", func(t *testing.T) {
		// The files are served by the machine's own mirror; 8 MiB hold some of them.
		b := onEmpty(t)
		o, left := b.onTinyDisk(8<<20, b.dir, "fetch", "seabios", "--guest", guest64, "--json")
		if o.code != 4 {
			t.Fatalf("exit code %d, want 4\n%s%s", o.code, o.tail(), o.stderr)
		}
		f := o.failure(t)
		t.Log(f.Message)
		contains(t, "failure", f.all(), "disk full")
		if f.Remedy == "" {
			t.Error("no remedy")
		}
		for _, name := range left {
			if strings.HasPrefix(name, filepath.Join(b.dir, "store", "tmp")) {
				t.Errorf("left: %s", name)
			}
		}
	})
	t.Run("under the image", func(t *testing.T) {
		b := onClone(t)
		tmp := filepath.Join(b.dir, "store", "tmp")
		must(t, os.MkdirAll(tmp, 0o755))
		o, left := b.onTinyDisk(16<<20, tmp, "image", "layer", "seabios", "--guest", guest64, "--json")
		if o.code != 4 {
			t.Fatalf("exit code %d, want 4\n%s%s", o.code, o.tail(), o.stderr)
		}
		f := o.failure(t)
		t.Log(f.Message)
		contains(t, "failure", f.all(), "disk full: "+tmp+" has 0 bytes free", "write spool", "Make room on the disk of "+tmp)
		if len(left) > 0 {
			t.Errorf("left: %q", left)
		}
		b.succeed("image", "layer", "seabios", "--guest", guest64) // with room, the same call
	})
	t.Run("under the machines", func(t *testing.T) {
		b := onClone(t, "bundles", "images")
		spec := quickFailure(b)
		runs := filepath.Join(b.dir, "runs")
		must(t, os.MkdirAll(runs, 0o755))
		o, left := b.onTinyDisk(1<<20, runs, "build", spec, "--accel", "tcg", "--json")
		if o.code != 4 {
			t.Fatalf("exit code %d, want 4\n%s%s", o.code, o.tail(), o.stderr)
		}
		f := o.failure(t)
		t.Log(f.Message)
		contains(t, "failure", f.all(), "no space left", "belljar clean", "--dir")
		for _, name := range left {
			if filepath.Ext(name) == ".img" {
				t.Errorf("left: %s", name)
			}
		}
	})
	t.Run("under a machine at work", func(t *testing.T) {
		b := onClone(t, "bundles", "images", "kernels")
		spec := b.spec("greedy", toySpec("greedy", "      echo tick 1\n      dd if=/dev/zero of=$HOME/much bs=1M count=1000 conv=fsync"))
		runs := filepath.Join(b.dir, "runs")
		must(t, os.MkdirAll(runs, 0o755))
		o, left := b.onTinyDisk(400<<20, runs, "build", spec, "--accel", "tcg", "--json")
		if o.code != 4 {
			t.Fatalf("exit code %d, want 4\n%s%s", o.code, o.tail(), o.stderr)
		}
		f := o.failure(t)
		t.Log(f.Message)
		contains(t, "failure", f.all(), "the host's disk is full", "console, last lines:", "its progress:", "run it by hand:", "belljar clean", "--dir")
		contains(t, "output", o.stdout, "trying once more")
		for _, name := range left {
			if filepath.Ext(name) == ".img" {
				t.Errorf("left: %s", name)
			}
		}
	})
	t.Run("under the artifacts", func(t *testing.T) {
		b := onShared(t)
		out := filepath.Join(b.cwd, "roms")
		must(t, os.Mkdir(out, 0o755))
		o, left := b.onTinyDisk(128<<10, out, "build", "seabios", "--out", out, "--json")
		if o.code != 4 {
			t.Fatalf("exit code %d, want 4\n%s%s", o.code, o.tail(), o.stderr)
		}
		f := o.failure(t)
		t.Log(f.Message)
		contains(t, "failure", f.all(), "no space left", "--out")
		if len(left) > 0 {
			t.Errorf("left: %q", left)
		}
	})
}

// onTinyDisk calls the program with a small file system of its own on a folder, and lists the files that it leaves
// there. The mount is in a mount namespace (unshare(1)): of the user's own, where this is not root.
func (b *belljar) onTinyDisk(size int, folder string, args ...string) (*outcome, []string) {
	b.t.Helper()
	list := filepath.Join(b.t.TempDir(), "left")
	script := `mount -t tmpfs -o size=$1 tmpfs "$2" || exit 99
list=$3 folder=$2
shift 3
"$@"
code=$?
find "$folder" -type f >"$list"
exit $code`
	call := append([]string{program, "--dir", b.dir}, args...)
	for _, flags := range []string{"-m", "-rm"} {
		cmd := exec.Command("unshare", append([]string{flags, "sh", "-c", script, "sh", fmt.Sprint(size), folder, list}, call...)...)
		cmd.Dir, cmd.Env = b.cwd, append(os.Environ(), b.env...)
		o := b.startCommand(cmd).wait()
		names, err := os.ReadFile(list)
		if err != nil { // it never came to the program
			b.t.Logf("unshare %s: %s", flags, o.stderr)
			continue
		}
		return o, strings.Fields(string(names))
	}
	b.t.Fatal("no small file system can be mounted here: neither root nor a user may have a mount namespace of their own")
	return nil, nil
}
