package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belljar/belljar/specs"
)

// packMain is a program for the scripts: it makes packages that no honest tool makes, and a lock that pins them.
//
//	pack deb NAME_VERSION_ARCH.deb ENTRY...     an entry is PATH=TEXT, PATH->TARGET (symbolic), PATH=>TARGET (hard),
//	                                            PATH/ (a folder), PATH:SIZE (declares that many bytes, brings none),
//	                                            DEBIAN/MEMBER=TEXT (of the control archive), or .SUFFIX (of data.tar)
//	pack lock SPEC.yaml MIRROR DEB...           the packages go to a mirror in a folder, the lock beside the spec
func packMain() {
	err := errors.New("pack deb|lock …")
	if len(os.Args) > 3 {
		switch os.Args[1] {
		case "deb":
			err = packDeb(os.Args[2], os.Args[3:])
		case "lock":
			err = packLock(os.Args[2], os.Args[3], os.Args[4:])
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// debName is what a package's file name says: NAME_VERSION_ARCH.deb.
func debName(file string) (name, version, arch string) {
	words := strings.SplitN(strings.TrimSuffix(filepath.Base(file), ".deb"), "_", 3)
	words = append(words, "1", "amd64")
	return words[0], words[1], words[2]
}

func packDeb(file string, entries []string) error {
	name, version, arch := debName(file)
	suffix := ""
	control := []string{fmt.Sprintf("control=Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: A <a@b>\nDescription: test\n",
		name, version, arch)}
	var data []string
	for _, e := range entries {
		if member, ok := strings.CutPrefix(e, "DEBIAN/"); ok {
			control = append(control, member)
		} else if strings.HasPrefix(e, ".") && !strings.HasPrefix(e, "./") && !strings.HasPrefix(e, "../") {
			suffix = e
		} else {
			data = append(data, e)
		}
	}
	var b bytes.Buffer
	b.WriteString("!<arch>\n")
	for _, m := range []struct {
		name    string
		entries []string
	}{{"debian-binary", nil}, {"control.tar", control}, {"data.tar" + suffix, data}} {
		body, err := []byte("2.0\n"), error(nil)
		if m.name != "debian-binary" {
			body, err = packTar(m.entries)
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n%s", m.name, 0, 0, 0, "100644", len(body), body)
		if len(body)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}

func packTar(entries []string) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e, Mode: 0o755, Typeflag: tar.TypeDir, ModTime: time.Unix(1e9, 0), Format: tar.FormatGNU}
		text, huge := "", false
		if name, to, ok := strings.Cut(e, "->"); ok {
			h.Name, h.Linkname, h.Typeflag = name, to, tar.TypeSymlink
		} else if name, to, ok := strings.Cut(e, "=>"); ok {
			h.Name, h.Linkname, h.Typeflag = name, to, tar.TypeLink
		} else if name, body, ok := strings.Cut(e, "="); ok {
			h.Name, text, h.Size, h.Typeflag, h.Mode = name, body, int64(len(body)), tar.TypeReg, 0o644
		} else if name, size, ok := strings.Cut(e, ":"); ok {
			n, err := strconv.ParseInt(size, 10, 64)
			if err != nil {
				return nil, err
			}
			h.Name, h.Size, h.Typeflag, huge = name, n, tar.TypeReg, true
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write([]byte(text)); err != nil {
			return nil, err
		}
		if huge { // what was declared does not come
			return append(b.Bytes(), make([]byte, 1024)...), nil
		}
	}
	err := w.Close()
	return b.Bytes(), err
}

func packLock(spec, mirror string, debs []string) error {
	loaded, err := specs.Load(spec)
	if err != nil {
		return err
	}
	for _, dir := range []string{"dists", "pool/main/x"} {
		if err := os.MkdirAll(filepath.Join(mirror, dir), 0o755); err != nil {
			return err
		}
	}
	lock := &specs.Lock{Version: specs.LockVersion, Spec: specs.Stamp(loaded), Guests: map[string]*specs.LockedGuest{}}
	for _, guest := range loaded.GuestNames() {
		g, err := loaded.Guest(guest)
		if err != nil {
			return err
		}
		made := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		lg := &specs.LockedGuest{
			Arch: g.Arch, Suite: g.Suite, Machine: g.Machine, CPU: g.CPU, Clock: g.Clock,
			Release: specs.Release{
				Suite: "oldstable", Codename: g.Suite, Date: made, InReleaseSHA256: strings.Repeat("0", 64), Snapshot: "20260101T000000Z",
			},
		}
		for _, file := range debs {
			data, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			name, version, arch := debName(file)
			p := specs.Package{
				Name: name, Version: version, Arch: arch, SHA256: fmt.Sprintf("%x", sha256.Sum256(data)), Size: int64(len(data)),
				Pool: "pool/main/x/" + filepath.Base(file), Kernel: strings.HasPrefix(name, "linux-image-"),
			}
			if p.Kernel {
				lg.Kernel = specs.Kernel{Package: name, Version: version, Release: strings.TrimPrefix(name, "linux-image-")}
			}
			if err := os.WriteFile(filepath.Join(mirror, p.Pool), data, 0o644); err != nil {
				return err
			}
			lg.Packages = append(lg.Packages, p)
		}
		slices.SortFunc(lg.Packages, func(a, b specs.Package) int { return cmp.Compare(a.Name, b.Name) })
		lock.Guests[guest] = lg
	}
	return lock.WriteFile(loaded.LockPath())
}
