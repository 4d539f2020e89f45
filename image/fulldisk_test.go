package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/fault"
)

// The tests in this file need a disk of their own that is full: this test binary again, in a mount namespace with a
// tmpfs of 1 MiB, or under a limit on the size of a file.
const fillVariable = "BELLJAR_IMAGE_TEST_FILL"

func TestMain(m *testing.M) {
	if os.Getenv(fillVariable) == "" {
		os.Exit(m.Run())
	}
	words := strings.SplitN(os.Getenv(fillVariable), " ", 4)
	if err := fillRole(words[0], words[1], words[2], words[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// filler is something that writes an image: to is where the result goes, temp where it works.
type filler func(ctx context.Context, to, temp string) error

// big are bytes that do not repeat, three times as many as there is room for.
func big() []byte {
	b := make([]byte, 3<<20)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	for i := range b {
		b[i] = 'A' + b[i]%32 // none that an entry's line would take for its type
	}
	return b
}

// into calls f with a file at path, which it leaves as the caller of the package would.
func into(path string, f func(*os.File) error) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(f(out), out.Close(), os.Remove(path))
}

// fillers needs a name for each way in which an image is written.
func fillers(tb testing.TB) map[string]filler {
	heavy := deb(tb, "heavy", "", nil, e("./usr/heavy="+string(big())))
	below, err := os.CreateTemp("", "below-*")
	if err != nil {
		panic(err)
	}
	os.Remove(below.Name())
	err = WriteBase(context.Background(), below, []Package{passwd(tb)}, BaseOptions{Clock: testClock})
	if err != nil {
		panic(err)
	}
	return map[string]filler{
		"unpack": func(ctx context.Context, to, temp string) error {
			return into(filepath.Join(to, "base"), func(out *os.File) error {
				return WriteBase(ctx, out, []Package{passwd(tb), heavy}, BaseOptions{Clock: testClock, TempDir: temp})
			})
		},
		"merge": func(ctx context.Context, to, temp string) error {
			diff := tarball(tb, e("new="+string(big())))
			return into(filepath.Join(to, "root"), func(out *os.File) error {
				_, err := Merge(ctx, out, below, bytes.NewReader(diff), MergeOptions{Clock: testClock, TempDir: temp})
				return err
			})
		},
		"sources": func(ctx context.Context, to, temp string) error {
			src := Tree{Name: "x", Parts: []Part{part("x.tar", tarball(tb, e("x/big="+string(big()))))}}
			return into(filepath.Join(to, "inputs"), func(out *os.File) error {
				return WriteTree(ctx, out, []Tree{src}, TreeOptions{Clock: testClock, TempDir: temp})
			})
		},
		"plain-source": func(ctx context.Context, to, temp string) error {
			src := Tree{Name: "x", Parts: []Part{part("x.bin", big())}}
			return into(filepath.Join(to, "inputs"), func(out *os.File) error {
				return WriteTree(ctx, out, []Tree{src}, TreeOptions{Clock: testClock, TempDir: temp})
			})
		},
		"extract": func(_ context.Context, to, _ string) error {
			r, err := heavy.Open()
			if err != nil {
				return err
			}
			return ExtractFile(r, "usr/heavy", filepath.Join(to, "heavy"))
		},
	}
}

// fillRole fills the folder small and prints what the user would read and what is left; then it makes room and does
// the same again.
func fillRole(name, how, small, roomy string) error {
	var t testing.T // for the makers of packages: they fail in a panic here
	f := fillers(&t)[strings.TrimSuffix(name, "/work")]
	to, temp := small, roomy
	if strings.HasSuffix(name, "/work") {
		to, temp = roomy, small
	}
	var makeRoom func() error
	switch how {
	case "tmpfs":
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("mount: %w", err)
		}
		if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=1m"); err != nil {
			return fmt.Errorf("mount: %w", err)
		}
		makeRoom = func() error { return unix.Mount("tmpfs", small, "tmpfs", unix.MS_REMOUNT, "size=64m") }
	case "limit":
		signal.Ignore(syscall.SIGXFSZ)
		var old unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
			return err
		}
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1 << 20, Max: old.Max}); err != nil {
			return err
		}
		makeRoom = func() error { return unix.Setrlimit(unix.RLIMIT_FSIZE, &old) }
	}
	fmt.Println("ready")
	err := f(context.Background(), to, temp)
	fmt.Printf("%v: %v\n", fault.KindOf(err), err)
	for _, e := range fault.Chain(err) {
		if e.Remedy != "" {
			fmt.Println("remedy:", e.Remedy)
		}
	}
	for _, dir := range []string{to, temp} {
		left, err := fs.Glob(os.DirFS(dir), "*")
		fmt.Println("left:", len(left), left, err)
	}
	if err := makeRoom(); err != nil {
		return err
	}
	fmt.Println("with room:", f(context.Background(), to, temp))
	return nil
}

// inFill runs a role; ok is false where this kernel lets us have no mount namespace.
func inFill(t *testing.T, name, how, small, roomy string) (out string, ok bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), fillVariable+"="+strings.Join([]string{name, how, small, roomy}, " "))
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if how == "tmpfs" {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		if os.Getuid() != 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
				UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
				GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
			}
		}
	}
	text, err := cmd.Output()
	if err != nil && !bytes.Contains(text, []byte("ready")) {
		t.Logf("no %s here: %v: %s", how, err, errs.Bytes())
		return "", false
	}
	if err != nil {
		t.Fatalf("%v: %s%s", err, text, errs.Bytes())
	}
	return string(text), true
}

// A disk that fills up while an image is written, wherever that is: the host's fault, which folder, what to do, nothing
// left; and with room the same call goes well.
func TestFullDisk(t *testing.T) {
	for name := range fillers(t) {
		places := []string{name, name + "/work"}
		if name == "extract" {
			places = places[:1]
		}
		for _, place := range places {
			for how, says := range map[string][]string{
				"tmpfs": {"disk full: SMALL has ", " bytes free: ", "no space left on device", "remedy: Make room on the disk of SMALL ('belljar clean'"},
				"limit": {"file too large for ", "remedy: Raise the limit on a file's size (ulimit -f)"},
			} {
				t.Run(place+" "+how, func(t *testing.T) {
					small, roomy := t.TempDir(), t.TempDir()
					out, ok := inFill(t, place, how, small, roomy)
					if !ok && how == "tmpfs" {
						return // the limit on a file's size fills as well, and needs no namespace
					}
					for _, s := range append(says, "host fault: ", "left: 0", "with room: <nil>") {
						if !strings.Contains(out, strings.ReplaceAll(s, "SMALL", small)) {
							t.Errorf("it does not say %q", strings.ReplaceAll(s, "SMALL", small))
						}
					}
					if strings.Count(out, "remedy: ") != 1 {
						t.Error("it gives more than one remedy")
					}
					if strings.Count(out, "left: 0 [] ") != 2 {
						t.Error("something is left")
					}
					if t.Failed() || testing.Verbose() {
						t.Log(out)
					}
				})
			}
		}
	}
}

func TestDiskFaults(t *testing.T) {
	for errno, says := range map[syscall.Errno]string{
		unix.ENOSPC: "disk full", unix.EDQUOT: "disk full", unix.EFBIG: "file too large", unix.EROFS: "may not write",
		unix.EACCES: "may not write", unix.EIO: "reports errors",
	} {
		err := diskFault("write image", "/some/folder", fmt.Errorf("erofs: %w", &os.PathError{Op: "write", Path: "x", Err: errno}))
		wantFault(t, err, fault.Host, says, "write image: ", "/some/folder")
		if again := diskFault("outer", "/other", fmt.Errorf("around: %w", err)); strings.Contains(again.Error(), "/other") {
			t.Errorf("told twice: %v", again)
		}
	}
	other := errors.New("of the package")
	if err := diskFault("write image", "/", other); err != other { //nolint:errorlint // as it is
		t.Errorf("%v", err)
	}
	if err := diskFault("write image", "/", nil); err != nil {
		t.Error(err)
	}
}
