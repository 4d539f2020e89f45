package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/guest-agent/wire"
)

// ledger holds the programs that ran so far. Its size is bounded, whatever the stage does.
type ledger struct {
	layers []layer
	mounts map[uint64]bool // by their ids, those on which a stage can run programs

	files    map[fileID]*wire.Program
	paths    map[string][]*wire.Program
	listed   int
	bytes    int          // of all paths
	unlisted wire.Program // stands for all that found no place
	backing  wire.Program // stands for all that are not programs of their own, see identify
	lost     int64
	buf      []byte
}

// layer is a read-only disk, or a folder of one, that a stage sees at some place.
type layer struct {
	at    string // the place
	lower string // where the agent sees the same without what was laid over it
	upper string // what was laid over it; empty: nothing can be
	from  string // wire.FromRoot or wire.FromInput
}

// layers are those of a stage.
func (s *stager) layers(st *wire.Stage) []layer {
	state := s.jar.state
	all := []layer{
		{"/", state + "/lower", state + "/overlay/upper", wire.FromRoot},
		{s.jar.inputs, s.jar.inputs, "", wire.FromInput},
	}
	for i, m := range st.Sources {
		lower, upper := s.lowerOf(m), fmt.Sprintf("%s/%d/upper", s.uppers(), i)
		all = append(all, layer{m.To, lower, upper, wire.FromInput})
	}
	return all
}

// fileID is a file with its content, as far as the kernel tells the difference without reading it.
type fileID struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

// maxFiles is how many files are remembered. One that is forgotten is hashed once more.
const maxFiles = 1 << 14

func newLedger(layers []layer) *ledger {
	return &ledger{
		layers: layers, mounts: map[uint64]bool{},
		files: map[fileID]*wire.Program{}, paths: map[string][]*wire.Program{}, buf: make([]byte, 256<<10),
	}
}

// note counts one run of the file that fd is open on.
func (l *ledger) note(fd int) *wire.Program {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		l.lost++
		return &l.backing
	}
	id := fileID{st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim}
	p := l.files[id]
	if p == nil {
		var err error
		if p, err = l.identify(fd, id); err != nil {
			l.lost++
			return &l.backing
		}
		if len(l.files) >= maxFiles {
			clear(l.files)
		}
		l.files[id] = p
	}
	p.Runs++
	return p
}

// identify finds out what a file is that was not run before.
func (l *ledger) identify(fd int, id fileID) (*wire.Program, error) {
	// A kernel may tell twice of a program on an overlay (6.18 does, 6.1 does not): also when the overlay opens the file
	// behind it, on a mount of its own that no path leads to.
	if id, err := mountOf(fd, ""); err != nil || !l.mounts[id] {
		return &l.backing, err
	}
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return nil, err
	}
	path = strings.TrimSuffix(path, " (deleted)") // proc_pid_fd(5)
	p := wire.Program{Path: path, From: l.from(path, id)}
	switch {
	case p.From == wire.FromRoot:
		return l.place(p), nil
	case len(l.paths[path]) >= wire.MaxContents:
		p.From = wire.FromMade
		return l.place(p), nil // without being hashed: as one of the rest at this path
	}
	if p.SHA256, err = l.hash(fd); err != nil {
		return nil, err
	}
	p.Size = id.size
	return l.place(p), nil
}

// mountOf is the id of the mount on which a file is, as in mountinfo: of the file dir is open on if name is empty.
func mountOf(dir int, name string) (uint64, error) {
	var st unix.Statx_t
	flags := unix.AT_SYMLINK_NOFOLLOW
	if name == "" {
		flags = unix.AT_EMPTY_PATH
	}
	err := unix.Statx(dir, name, flags, unix.STATX_MNT_ID, &st)
	if err == nil && st.Mask&unix.STATX_MNT_ID == 0 {
		err = unix.ENOSYS // Linux before 5.8
	}
	return st.Mnt_id, err
}

// from says which layer a file is an unchanged file of. An overlay shows a file that its lower layer alone has under that
// layer's inode number (Documentation/filesystems/overlayfs.rst, "Inode properties"); one that was written to, moved,
// linked or deleted has left a mark in the upper layer.
func (l *ledger) from(path string, id fileID) string {
	for _, y := range l.layers {
		rest := strings.TrimPrefix(path, y.at)
		if len(rest) == len(path) || y.at != "/" && rest[:min(1, len(rest))] != "/" {
			continue
		}
		var st unix.Stat_t
		if unix.Lstat(y.lower+"/"+rest, &st) != nil || st.Ino != id.ino || st.Size != id.size || st.Mtim != id.mtime {
			continue
		}
		if y.upper == "" || unix.Lstat(y.upper+"/"+rest, &st) != nil {
			return y.from
		}
	}
	return wire.FromMade
}

// hash reads a file from its beginning, wherever fd stands in it.
func (l *ledger) hash(fd int) (string, error) {
	sum := sha256.New()
	for at := int64(0); ; {
		n, err := unix.Pread(fd, l.buf, at)
		if err != nil {
			return "", err
		}
		if n == 0 {
			return hex.EncodeToString(sum.Sum(nil)), nil
		}
		sum.Write(l.buf[:n])
		at += int64(n)
	}
}

// place finds a program's entry, or makes one while there is room.
func (l *ledger) place(p wire.Program) *wire.Program {
	same := l.paths[p.Path]
	for _, known := range same {
		if known.SHA256 == p.SHA256 && known.From == p.From {
			return known
		}
	}
	if l.listed >= wire.MaxPrograms || l.bytes+len(p.Path) > wire.MaxPathBytes {
		return &l.unlisted
	}
	l.listed++
	l.bytes += len(p.Path)
	l.paths[p.Path] = append(same, &p)
	return &p
}

// programs is the list as the host gets it.
func (l *ledger) programs() *wire.Programs {
	all := &wire.Programs{List: []wire.Program{}, Unlisted: l.unlisted.Runs, Lost: l.lost}
	for _, same := range l.paths {
		for _, p := range same {
			all.List = append(all.List, *p)
		}
	}
	slices.SortFunc(all.List, func(a, b wire.Program) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.SHA256, b.SHA256), cmp.Compare(a.From, b.From))
	})
	return all
}
