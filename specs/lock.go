package specs

import (
	"bytes"
	"encoding/json"
	"time"
)

// LockVersion is the newest version of the lock language that this package reads; it reads all that came before. A lock
// is written in the oldest version that can say what it says, so that a lock changes only where its contents do.
//
//	1: one suite a guest, its present state
//	2: more suites, snapshots: Suites of a guest, Suite of a package, Suite, Archive and Snapshot of a source
//	3: needed specs: Needs
const LockVersion = 3

// Lock pins every byte that a build may see. Only `belljar lock` writes one; a person reads it in a review.
// It is JSON, indented by two spaces, each list sorted, so that two locks differ where their contents do.
type Lock struct {
	Version int                     `json:"version"`
	Spec    LockSpec                `json:"spec"`
	Needs   []NeededLock            `json:"needs,omitempty"` // sorted by name
	Sources []LockedSource          `json:"sources"`         // sorted by name
	Guests  map[string]*LockedGuest `json:"guests"`          // by the guest spec's name
}

// LockSpec says for which spec a lock was made.
type LockSpec struct {
	Name     string            `json:"name"`
	Digest   string            `json:"digest"`   // Loaded.Digest
	Sections map[string]string `json:"sections"` // Loaded.Sections: lets a mismatch name what changed
}

// NeededLock pins the lock of a spec whose stages are needed, and so every byte of it. What that lock's spec needs in
// turn, it pins itself.
type NeededLock struct {
	Name     string            `json:"name"`     // the spec's name
	Lock     string            `json:"lock"`     // Lock.Digest
	Sections map[string]string `json:"sections"` // Lock.sections: lets a mismatch name what changed
}

// The kinds of a source.
const (
	KindDebian = "debian"
	KindURL    = "url"
	KindGit    = "git"
)

// LockedSource is a Source with the files that it came to.
type LockedSource struct {
	Name    string `json:"name"`              // the Source's name
	Kind    string `json:"kind"`              // debian, url or git
	Package string `json:"package,omitempty"` // of debian: the source package
	Version string `json:"version,omitempty"` // of debian: its version
	Commit  string `json:"commit,omitempty"`  // of git: the full commit
	// Of debian, where it is not the first guest's own suite in its present state: where the files lie.
	Suite    string `json:"suite,omitempty"`    // bookworm-security
	Archive  string `json:"archive,omitempty"`  // debian-security
	Snapshot string `json:"snapshot,omitempty"` // YYYYMMDDTHHMMSSZ
	Files    []File `json:"files"`              // sorted by name; of debian: the .dsc and what it lists (dsc(5))
}

// Debian's archives, by the folder that each has on a mirror and in the snapshot archive.
const (
	ArchiveMain     = "debian"
	ArchiveSecurity = "debian-security"
)

// File is one file that is fetched, and where it may be had.
type File struct {
	Name    string `json:"name"`              // the file's name
	Version string `json:"version,omitempty"` // of a package
	Arch    string `json:"arch,omitempty"`    // of a binary package: amd64, i386, all
	SHA256  string `json:"sha256"`            // 64 hex digits
	Size    int64  `json:"size"`              // bytes
	Pool    string `json:"pool,omitempty"`    // in a Debian archive: pool/main/s/seabios/x.dsc; any mirror serves it
	URL     string `json:"url,omitempty"`     // elsewhere
}

// LockedGuest is a Guest with the archive, the kernel and all the packages that it came to.
// The packages are those of one image: the guest's own, all stages', and whatever these depend on.
type LockedGuest struct {
	Arch     string        `json:"arch"`             // x86_64 or i686
	Suite    string        `json:"suite"`            // as the guest spec names it
	Release  Release       `json:"release"`          // the suite's state that was resolved against
	Suites   []LockedSuite `json:"suites,omitempty"` // the other suites, sorted by name
	Kernel   Kernel        `json:"kernel"`           // the kernel that the guest boots
	Machine  string        `json:"machine"`          // QEMU's versioned machine type
	CPU      string        `json:"cpu"`              // QEMU's CPU model
	Clock    time.Time     `json:"clock"`            // at power-on
	Packages []Package     `json:"packages"`         // sorted by name, then architecture
}

// LockedSuite is a suite beside the guest's own: its updates, its security updates.
type LockedSuite struct {
	Suite   string  `json:"suite"`   // bookworm-security
	Archive string  `json:"archive"` // the archive that it is in: debian, debian-security
	Release Release `json:"release"` // its state that was resolved against
}

// Origin says in which archive a package of the guest lies, and at which moment the snapshot archive has it.
func (g *LockedGuest) Origin(p Package) (archive, snapshot string) {
	for _, s := range g.Suites {
		if s.Suite == p.Suite {
			return s.Archive, s.Release.Snapshot
		}
	}
	return ArchiveMain, g.Release.Snapshot
}

// Release is the state of a Debian archive: what its InRelease file said, and a time at which snapshot.debian.org kept
// it.
type Release struct {
	Suite           string    `json:"suite"`            // of the Release file: oldstable
	Codename        string    `json:"codename"`         // of the Release file: bookworm
	Date            time.Time `json:"date"`             // of the Release file
	InReleaseSHA256 string    `json:"inrelease_sha256"` // of the InRelease file as it was fetched
	Snapshot        string    `json:"snapshot"`         // YYYYMMDDTHHMMSSZ
}

// Kernel is the kernel that a guest boots: a linux-image package, which is not installed in the guest's root.
type Kernel struct {
	Package string `json:"package"` // linux-image-6.1.0-40-amd64
	Version string `json:"version"` // of the package
	Release string `json:"release"` // what uname -r says: 6.1.0-40-amd64
}

// Package is a binary package of a guest.
type Package struct {
	Name      string `json:"name"`
	Version   string `json:"version"`
	Arch      string `json:"arch"` // amd64, i386 or all
	SHA256    string `json:"sha256"`
	Size      int64  `json:"size"`
	Pool      string `json:"pool"`
	Suite     string `json:"suite,omitempty"`     // the suite that it comes from, where it is not the guest's own
	Essential bool   `json:"essential,omitempty"` // as its control file says (deb-control(5))
	Kernel    bool   `json:"kernel,omitempty"`    // the linux-image: it feeds the boot and is not installed
	Role      string `json:"role,omitempty"`      // why it is here, for a reviewer
}

// Marshal writes l in its one form: the same lock gives the same bytes.
func (l *Lock) Marshal() []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(l.sorted()); err != nil {
		panic("marshal lock: " + err.Error()) // only a clock beyond the year 9999 could do that
	}
	return b.Bytes()
}

// oldest is the oldest version of the language that can say what l says.
func (l *Lock) oldest() int {
	if len(l.Needs) > 0 {
		return 3
	}
	for _, s := range l.Sources {
		if s.Suite != "" || s.Archive != "" || s.Snapshot != "" {
			return 2
		}
	}
	for _, g := range l.Guests {
		// A package names a suite only where the guest has more than one: the validation sees to it.
		if len(g.Suites) > 0 {
			return 2
		}
	}
	return 1
}
