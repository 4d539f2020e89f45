package image

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/belljar/belljar/image/debian"
)

// unpacked is one package's members, read but not yet laid into the tree.
type unpacked struct {
	pkg       Package
	deb       *debian.Deb // closed, but it still has the control members
	conffiles debian.Conffiles
	overrides []debian.Relation // the field Replaces
	members   []member
	lost      map[string]bool // members that another package took over
	aside     []aside         // members that wait for a diversion
}

type member struct {
	name string // as in the package: clean, relative, "." for the root
	node *node
	hard string // of a hard link: the member whose content it has
}

// unpackAll reads the packages, several at a time: nearly all of the work is decompression.
func unpackAll(ctx context.Context, pkgs []Package, sp *spool, progress func(done, total int)) ([]*unpacked, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	all := make([]*unpacked, len(pkgs))
	next := make(chan int)
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := 0
	for range min(runtime.GOMAXPROCS(0), len(pkgs)) {
		wg.Go(func() {
			for i := range next {
				u, err := unpack(ctx, pkgs[i], sp)
				if err != nil {
					cancel(fmt.Errorf("unpack %s %s: %w", pkgs[i].Name, pkgs[i].Version, err))
					continue
				}
				mu.Lock()
				all[i] = u
				if done++; progress != nil {
					progress(done, len(pkgs))
				}
				mu.Unlock()
			}
		})
	}
	for _, i := range largestFirst(pkgs) {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	wg.Wait()
	return all, context.Cause(ctx)
}

// largestFirst is the order of work, as indexes.
func largestFirst(pkgs []Package) []int {
	order := make([]int, len(pkgs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(pkgs[b].Size, pkgs[a].Size) })
	return order
}

func unpack(ctx context.Context, p Package, sp *spool) (*unpacked, error) {
	r, err := p.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	deb, err := debian.OpenDebNamed(p.Name, r)
	if err != nil {
		return nil, err
	}
	defer deb.Close()
	u := &unpacked{pkg: p, deb: deb, lost: map[string]bool{}}
	if u.conffiles, err = debian.ParseConffiles(p.Name, deb.Control()["conffiles"]); err != nil {
		return nil, err
	}
	if u.overrides, err = overridden(p, deb.Control()["control"]); err != nil {
		return nil, err
	}
	if p.Repack != nil && deb.WorthRepacking() {
		if to, done := p.Repack(); to != nil {
			again := deb.Repack(to)
			defer func() { done(again.Finish()) }()
		}
	}
	return u, u.readMembers(ctx, sp)
}

// readMembers brings the contents into the spool, and all else into u.
func (u *unpacked) readMembers(ctx context.Context, sp *spool) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := u.deb.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		m := member{name: h.Name, node: nodeOf(h, u.pkg.Name)}
		switch h.Typeflag {
		case tar.TypeLink:
			m.hard = h.Linkname
		case tar.TypeReg:
			if m.node.data, err = sp.add(u.deb, h.Size); err != nil {
				return fmt.Errorf("%s: %w", h.Name, err)
			}
		}
		u.members = append(u.members, m)
	}
}

// nodeOf translates a tar header; owners are taken by number, as dpkg does when it unpacks into a fresh root.
func nodeOf(h *tar.Header, owner string) *node {
	n := &node{
		mode: uint32(h.Mode & 0o7777), uid: uint32(h.Uid), gid: uint32(h.Gid),
		mtime: h.ModTime.Unix(), owner: owner,
	}
	switch h.Typeflag {
	case tar.TypeDir:
		n.mode |= typeDir
	case tar.TypeSymlink:
		n.mode = typeLink | 0o777
		n.link = h.Linkname
	case tar.TypeChar:
		n.mode |= typeChar
		n.rdev = encodeDev(uint32(h.Devmajor), uint32(h.Devminor))
	case tar.TypeBlock:
		n.mode |= typeBlock
		n.rdev = encodeDev(uint32(h.Devmajor), uint32(h.Devminor))
	case tar.TypeFifo:
		n.mode |= typeFifo
	default:
		n.mode |= typeFile
		n.size = h.Size
	}
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			if n.xattrs == nil {
				n.xattrs = map[string]string{}
			}
			n.xattrs[name] = value
		}
	}
	return n
}
