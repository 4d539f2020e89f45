package image

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"slices"
	"strings"

	"github.com/belljar/belljar/fault"
)

// Program is a file of an image that was run in a guest.
type Program struct {
	Path    string // of several names of the file the first, so that one program is always called the same
	SHA256  string
	Package InstalledPackage // the zero value where it belongs to none
}

// Program finds the file at a path that leads over no link, hashes it, and says which package it belongs to.
func (m *Image) Program(name string) (Program, error) {
	at, n, err := m.find(name, false)
	if err != nil {
		return Program{}, err
	}
	if n.mode&typeMask != typeFile {
		return Program{}, fault.New(fault.Input, "image "+m.Name, "%s is %s, which cannot be run", absolute(at), n.kind())
	}
	if names := m.links[n]; len(names) > 0 {
		at = names[0]
	}
	sum := sha256.New()
	got, err := io.Copy(sum, n.reader())
	if err == nil && got != n.size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return Program{}, fault.New(fault.Input, "image "+m.Name, "%s: %w", absolute(at), err)
	}
	p := Program{Path: absolute(at), SHA256: hex.EncodeToString(sum.Sum(nil))}
	db := m.database()
	owner := db.owner(at)
	i, found := slices.BinarySearchFunc(db.packages, owner, func(p InstalledPackage, name string) int {
		return strings.Compare(p.Name, name)
	})
	if found {
		p.Package = db.packages[i]
	}
	return p, nil
}
