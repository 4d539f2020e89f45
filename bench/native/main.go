// Command native runs a spec's stages on the host's own processors: each in a chroot of the guest's own image, as an
// unprivileged user, without a network, with a stage's environment. It is what emulated builds are held against: they
// must come to the same bytes, and what they take longer is what emulation costs. What it makes is not kept by belljar:
// the kernel that it ran on is the host's.
//
//	go run ./bench/native [-guest NAME] [-belljar FILE] [-store FOLDER] [-keep FOLDER] SPEC
//
// It prints a line for each stage when it is done, the SHA-256 of each artifact, and 'figure NAME VALUE UNIT' lines. With -keep
// all that was made and all logs stay in a folder; else nothing does.
package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/belljar/belljar/image"
	"github.com/belljar/belljar/pipeline"
	"github.com/belljar/belljar/specs"
	"github.com/belljar/belljar/store"
)

func main() {
	guest := flag.String("guest", "", "the guest whose image the stages see (default the spec's first)")
	belljar := flag.String("belljar", "bin/belljar", "the program, which makes the images")
	cache, _ := os.UserCacheDir()
	dir := flag.String("store", cmp.Or(os.Getenv("BELLJAR_DIR"), filepath.Join(cache, "belljar")), "belljar's own folder")
	keep := flag.String("keep", "", "leave what was made in this folder, which must not be there yet")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	n := &native{guest: *guest, belljar: *belljar, dir: *dir}
	if err := n.run(ctx, flag.Args(), *keep); err != nil {
		fmt.Fprintln(os.Stderr, "bench/native:", err)
		stop()
		os.Exit(1)
	}
}

// native runs the stages of a spec, and of those that it needs.
type native struct {
	guest   string // its name
	belljar string
	dir     string // belljar's own
	out     string // what is made; a stage's own folder is named after it

	store  *store.Store
	locks  specs.Locks
	images map[string]string       // a spec's name → the folder with its guest's root
	made   map[*specs.Stage]string // what was $OUT
	took   []took
}

// took is how long a stage took.
type took struct {
	stage     string
	wall, cpu time.Duration
}

func (n *native) run(ctx context.Context, args []string, keep string) (err error) {
	if len(args) != 1 {
		return errors.New("name one spec: bench/native.sh [-guest GUEST] [-keep FOLDER] SPEC")
	}
	if os.Geteuid() != 0 {
		return errors.New("it makes chroots and mounts: run it as root (sudo)")
	}
	l, err := specs.Load(args[0])
	if err != nil {
		return err
	}
	n.guest = cmp.Or(n.guest, l.GuestNames()[0])
	if n.locks, err = specs.LoadLocks(l, ""); err != nil {
		return err
	}
	if n.store, err = store.Open(filepath.Join(n.dir, "store")); err != nil {
		return err
	}
	if n.out, err = makeFolder(keep); err != nil {
		return err
	}
	if keep == "" {
		defer func() { err = errors.Join(err, os.RemoveAll(n.out)) }()
	}
	n.images, n.made = map[string]string{}, map[*specs.Stage]string{}
	for i := range l.Spec.Stages {
		if err := n.stage(ctx, l, &l.Spec.Stages[i]); err != nil {
			return err
		}
	}
	return n.say(os.Stdout, l)
}

// makeFolder makes a new folder, of that name if there is one.
func makeFolder(name string) (string, error) {
	if name == "" {
		return os.MkdirTemp("/var/tmp", "belljar-native-")
	}
	if err := os.Mkdir(name, 0o755); err != nil {
		return "", fmt.Errorf("-keep wants a folder that is not there yet: %w", err)
	}
	return filepath.Abs(name)
}

// folder is where what has that name lies.
func (n *native) folder(name string) string {
	return filepath.Join(n.out, strings.ReplaceAll(name, "/", "@"))
}

// stage runs a stage, after those that it needs.
func (n *native) stage(ctx context.Context, l *specs.Loaded, s *specs.Stage) error {
	if n.made[s] != "" {
		return nil
	}
	for _, entry := range s.Needs {
		of, need := l.Need(entry)
		if err := n.stage(ctx, of, need); err != nil {
			return err
		}
	}
	name := l.Spec.Name + "#" + s.Name
	c := &chroot{dir: n.folder(name)}
	var err error
	if c.guest, err = l.Guest(n.guest); err != nil {
		return err
	}
	if c.image, err = n.image(ctx, l); err != nil {
		return fmt.Errorf("image of %s: %w", l.Spec.Name, err)
	}
	for _, src := range n.locks[l.Spec.Name].Sources {
		if s.Sources != nil && !slices.Contains(s.Sources, src.Name) {
			continue
		}
		folder, err := n.source(ctx, l, src)
		if err != nil {
			return fmt.Errorf("source %s: %w", src.Name, err)
		}
		c.see(folder, "sources/"+src.Name)
	}
	for _, entry := range s.Needs {
		_, need := l.Need(entry)
		c.see(n.made[need], "stages/"+need.Name)
	}
	t, err := c.run(ctx, s)
	if err != nil {
		return fmt.Errorf("stage %s: %w", name, err)
	}
	t.stage, n.made[s] = name, c.outputs()
	n.took = append(n.took, t)
	fmt.Printf("%-40s %8.1f s, %8.1f s of processor time\n", name, t.wall.Seconds(), t.cpu.Seconds())
	return nil
}

// image is the root of a spec's guest as belljar has made it, unpacked.
func (n *native) image(ctx context.Context, l *specs.Loaded) (string, error) {
	if n.images[l.Spec.Name] != "" {
		return n.images[l.Spec.Name], nil
	}
	folder := n.folder("image/" + l.Spec.Name)
	name := cmp.Or(l.Path, l.Spec.Name)
	for _, args := range [][]string{
		{"image", "build", name},
		{"image", "export", name, "--format", "tar", "--output", folder + ".tar"},
	} {
		args = append(args, "--guest", n.guest, "--dir", n.dir, "--quiet")
		if out, err := exec.CommandContext(ctx, n.belljar, args...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("belljar %s: %w\n%s", strings.Join(args[:2], " "), err, out)
		}
	}
	n.images[l.Spec.Name] = folder
	return folder, unpack(ctx, folder+".tar", folder)
}

// source is a source as a stage finds it, unpacked.
func (n *native) source(ctx context.Context, l *specs.Loaded, s specs.LockedSource) (folder string, err error) {
	folder = n.folder("sources/" + l.Spec.Name)
	if _, err := os.Stat(filepath.Join(folder, "sources", s.Name)); err == nil {
		return filepath.Join(folder, "sources", s.Name), nil
	}
	tree, err := pipeline.SourceTree(n.store, s)
	if err != nil {
		return "", err
	}
	disk, err := os.Create(folder + ".img")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, disk.Close(), os.Remove(disk.Name())) }()
	clock := n.locks[l.Spec.Name].Guests[n.guest].Clock
	if err := image.WriteTree(ctx, disk, []image.Tree{tree}, image.TreeOptions{Clock: clock, TempDir: n.out}); err != nil {
		return "", err
	}
	if err := exportTar(ctx, disk, folder+".tar", clock); err != nil {
		return "", err
	}
	return filepath.Join(folder, "sources", s.Name), unpack(ctx, folder+".tar", folder)
}

// exportTar writes what is on a disk as an archive.
func exportTar(ctx context.Context, disk *os.File, name string, clock time.Time) (err error) {
	size, err := disk.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	m, err := image.Open(ctx, disk.Name(), disk, size, filepath.Dir(name))
	if err != nil {
		return err
	}
	defer m.Close()
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return m.ExportTar(ctx, f, image.ExportOptions{Clock: clock})
}

// unpack unpacks an archive into a folder, and removes the archive.
func unpack(ctx context.Context, name, folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "tar", "--numeric-owner", "-xpf", name, "-C", folder).CombinedOutput(); err != nil {
		return fmt.Errorf("tar: %w\n%s", err, out)
	}
	return os.Remove(name)
}

// say prints what came of all.
func (n *native) say(w io.Writer, l *specs.Loaded) error {
	fmt.Fprintln(w)
	for _, a := range l.Spec.Artifacts {
		data, err := os.ReadFile(filepath.Join(n.made[l.Spec.Stage(a.Stage)], a.Path))
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%x  %s\n", sha256.Sum256(data), a.Name)
	}
	fmt.Fprintln(w)
	var all took
	for _, t := range n.took {
		all.wall, all.cpu = all.wall+t.wall, all.cpu+t.cpu
		fmt.Fprintf(w, "figure native-%s %.1f s\n", t.stage, t.wall.Seconds())
	}
	fmt.Fprintf(w, "figure native-wall %.1f s\nfigure native-cpu %.1f s\n", all.wall.Seconds(), all.cpu.Seconds())
	return nil
}
