package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/pipeline"
	"github.com/belljar/belljar/specs"
)

// chroot is where a stage runs: a copy-on-write view of a guest's root, in mount, process and network namespaces of its own.
type chroot struct {
	dir   string // its own folder
	image string // the guest's root
	guest *specs.Guest
	views []view
}

// view is a folder that the stage sees below /build, and may write to without changing it.
type view struct{ from, to string }

func (c *chroot) see(from, to string) { c.views = append(c.views, view{from, to}) }

func (c *chroot) outputs() string { return filepath.Join(c.dir, "out") }

// enter makes the mounts and goes in. Its arguments: the stage's own folder, the image, the machine that uname(1) is to
// name, pairs of a folder and where it is seen below /build, '--', and the environment. The devices are those of the guest
// that a build may need. Nothing is to be unmounted: all of it ends with the namespace.
const enter = `set -eu
dir=$1 image=$2 machine=$3
shift 3
root=$dir/root
mount --make-rprivate /
lay() { # lay NAME LOWER AT
	mkdir -p "$dir/over/$1" "$dir/work/$1" "$3"
	chown --reference="$2" "$dir/over/$1"
	mount -t overlay -o "lowerdir=$2,upperdir=$dir/over/$1,workdir=$dir/work/$1" overlay "$3"
}
lay root "$image" "$root"
mkdir -p "$root/build/out" "$root/build/work" "$root/build/home"
n=0
while [ "$1" != -- ]; do
	n=$((n + 1))
	lay $n "$1" "$root/build/$2"
	shift 2
done
shift
mount --bind "$dir/out" "$root/build/out"
chown 1000:1000 "$root/build/out" "$root/build/work" "$root/build/home"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/dev"
mkdir "$root/dev/shm"
chmod 1777 "$root/dev/shm"
for d in null zero full random urandom; do
	: >"$root/dev/$d"
	mount --bind "/dev/$d" "$root/dev/$d"
done
ln -s /proc/self/fd "$root/dev/fd"
umask 022
exec setarch "$machine" chroot "$root" /usr/bin/setpriv --reuid=1000 --regid=1000 --clear-groups \
	/usr/bin/env -i "$@" /bin/sh -c 'cd /build/work; exec /bin/sh -eu /build/script'
`

// run runs a stage and says how long it took. Its log lies in the stage's folder.
func (c *chroot) run(ctx context.Context, s *specs.Stage) (t took, err error) {
	for _, d := range []string{c.outputs(), filepath.Join(c.dir, "over/root/build")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return t, err
		}
	}
	if err := os.WriteFile(filepath.Join(c.dir, "over/root/build/script"), []byte(s.Script), 0o644); err != nil {
		return t, err
	}
	log, err := os.Create(filepath.Join(c.dir, "log"))
	if err != nil {
		return t, err
	}
	defer log.Close()
	args := []string{"--mount", "--pid", "--net", "--ipc", "--fork", "/bin/sh", "-c", enter, "sh", c.dir, c.image, c.guest.Arch}
	for _, v := range c.views {
		args = append(args, v.from, v.to)
	}
	args = append(args, "--")
	for name, value := range pipeline.StageEnv(s, c.guest) {
		args = append(args, name+"="+value)
	}
	cmd := exec.CommandContext(ctx, "unshare", args...)
	cmd.Stdout, cmd.Stderr = log, log
	// With its first process the namespace ends, and all that runs in it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return t, fmt.Errorf("%w; its last lines:\n%s", err, lastLines(log.Name()))
	}
	t.wall, t.cpu = time.Since(start), cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()
	for _, name := range []string{"over", "work", "root"} {
		if err := os.RemoveAll(filepath.Join(c.dir, name)); err != nil {
			return t, err
		}
	}
	return t, c.settle(s)
}

// settle holds what was made against what the stage promises, and takes its times away, as an output has none: else make
// would build again in a tree that was handed on.
func (c *chroot) settle(s *specs.Stage) error {
	for _, o := range s.Outputs {
		if _, err := os.Lstat(filepath.Join(c.outputs(), o)); err != nil {
			return fmt.Errorf("output: %w", err)
		}
	}
	var none unix.Timespec
	return filepath.WalkDir(c.outputs(), func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{none, none}, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// lastLines are the last ten of a file.
func lastLines(name string) []byte {
	data, err := os.ReadFile(name)
	if err != nil {
		return []byte(err.Error())
	}
	lines := bytes.SplitAfter(data, []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-11):], nil)
}
