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
	lower string // the root as its verified disk has it, without what the guest laid over it
	build string // the stage's folder
	input string // where the input disk is mounted
	disk  uint64 // the device that folder is on: what is on another one, below it, is an input as it came

	files    map[fileID]*wire.Program
	paths    map[string][]*wire.Program
	listed   int
	bytes    int          // of all paths
	unlisted wire.Program // stands for all that found no place
	lost     int64
	buf      []byte
}

// fileID is a file with its content, as far as the kernel tells the difference without reading it.
type fileID struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

// maxFiles is how many files are remembered. One that is forgotten is hashed once more.
const maxFiles = 1 << 14

func newLedger(j *jar) (*ledger, error) {
	var st unix.Stat_t
	if err := unix.Stat(j.build, &st); err != nil {
		return nil, fmt.Errorf("%s: %w", j.build, err)
	}
	return &ledger{
		lower: j.state + "/lower", build: j.build + "/", input: j.inputs + "/", disk: st.Dev,
		files: map[fileID]*wire.Program{}, paths: map[string][]*wire.Program{}, buf: make([]byte, 256<<10),
	}, nil
}

// note counts one run of the file that fd is open on. fixed: it lies where the stage cannot write.
func (l *ledger) note(fd int, fixed bool) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		l.lost++
		return
	}
	id := fileID{st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim}
	p := l.files[id]
	if p == nil {
		var err error
		if p, err = l.identify(fd, id, fixed); err != nil {
			l.lost++
			return
		}
		if len(l.files) >= maxFiles {
			clear(l.files)
		}
		l.files[id] = p
	}
	p.Runs++
}

// identify finds out what a file is that was not run before.
func (l *ledger) identify(fd int, id fileID, fixed bool) (*wire.Program, error) {
	p := wire.Program{From: wire.FromMade}
	var err error
	if p.Path, err = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err != nil {
		return nil, err
	}
	p.Path = strings.TrimSuffix(p.Path, " (deleted)") // proc_pid_fd(5)
	switch {
	case fixed && l.inRoot(p.Path, id):
		p.From = wire.FromRoot
		return l.place(p), nil
	case id.dev != l.disk && strings.HasPrefix(p.Path, l.build), fixed && strings.HasPrefix(p.Path, l.input):
		p.From = wire.FromInput
	}
	if len(l.paths[p.Path]) >= wire.MaxContents {
		return &l.unlisted, nil // without being hashed: nobody will see the digest
	}
	if p.SHA256, err = l.hash(fd); err != nil {
		return nil, err
	}
	p.Size = id.size
	return l.place(p), nil
}

// inRoot reports whether a file of the guest's root is the verified disk's: an overlay shows a file that only its lower
// layer has under that layer's inode number (Documentation/filesystems/overlayfs.rst, "Inode properties"), and one that
// was written to since lies on the upper layer's device.
func (l *ledger) inRoot(path string, id fileID) bool {
	var st, upper unix.Stat_t
	if unix.Lstat(l.lower+path, &st) != nil || st.Ino != id.ino || st.Size != id.size || st.Mtim != id.mtime {
		return false
	}
	return unix.Lstat(l.lower+"/../overlay/upper"+path, &upper) != nil
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
	if len(same) >= wire.MaxContents || l.listed >= wire.MaxPrograms || l.bytes+len(p.Path) > wire.MaxPathBytes {
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
