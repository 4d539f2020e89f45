package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/belljar/belljar/fault"
)

// MergeOptions say how the final root is made.
type MergeOptions struct {
	Arch    string    // x86_64 or i686: what kind of root the partition says it is
	Clock   time.Time // greatest mtime of any file
	TempDir string    // for the spool; "" is the system's
}

// maxDiff bounds what configuring may have changed: a guest's answer is not trusted with the host's disk.
const maxDiff = 8 << 30

// Merge writes the final root disk: the base layer's disk with the difference that configuring it made, both normalised.
// The difference is a tar stream of an overlay's upper directory (kernel, Documentation/filesystems/overlayfs.rst):
// a character device 0:0 takes a name away, a folder with the extended attribute trusted.overlay.opaque=y hides
// what lay below it. The root's hash tree lies behind it on the disk; its root hash is returned.
func Merge(ctx context.Context, out *os.File, base io.ReaderAt, diff io.Reader, opts MergeOptions,
) (rootHash string, err error) {
	defer func() { err = diskFault("write image", folderOf(out), err) }()
	t, err := readErofs(io.NewSectionReader(base, partStart, math.MaxInt64-partStart), "base")
	if err != nil {
		return "", fault.New(fault.Input, "read base image", "%w", err).
			WithRemedy("Make the image anew; its file is damaged.")
	}
	sp, err := newSpool(opts.TempDir)
	if err != nil {
		return "", err
	}
	defer sp.Close()
	err = applyDiff(ctx, t, tar.NewReader(diff), sp, maxDiff)
	switch {
	case err == nil:
	case fault.KindOf(err) == fault.Host, ctx.Err() != nil: // the disk's error, or the caller's will: not the guest's
		return "", err
	default:
		return "", fault.New(fault.Guest, "read configured image", "%w", err).
			WithRemedy("Try it once more; where it fails again, a package's script does what no image can hold: see the " +
				"run's log of phase configure.")
	}
	if err := leaveOut(t, opts.Clock); err != nil {
		return "", err
	}
	t.clamp(opts.Clock)
	size, err := writeErofs(ctx, io.NewOffsetWriter(out, partStart), t, opts.Clock)
	if err != nil {
		return "", err
	}
	return sealDisk(ctx, out, size, opts.Arch)
}

func applyDiff(ctx context.Context, t *tree, r *tar.Reader, sp *spool, limit int64) error {
	for left := limit; ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Size > limit {
			return fmt.Errorf("%s: it declares %d bytes, the difference has at most %d", h.Name, h.Size, limit)
		}
		if left -= 512 + max(h.Size, 0); left < 0 {
			return fmt.Errorf("%s: the difference has more than %d bytes", h.Name, limit)
		}
		if err := applyEntry(t, h, r, sp); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

func applyEntry(t *tree, h *tar.Header, r io.Reader, sp *spool) error {
	name := path.Clean(h.Name)
	if path.IsAbs(name) || name == ".." || strings.HasPrefix(name, "../") {
		return errors.New("the path leaves the root")
	}
	if h.Typeflag == tar.TypeChar && h.Devmajor == 0 && h.Devminor == 0 {
		t.remove(name)
		return nil
	}
	if err := checkHeader(h); err != nil {
		return err
	}
	n := nodeOf(h, "diff")
	opaque := n.xattrs["trusted.overlay.opaque"] == "y"
	for key := range n.xattrs {
		switch {
		case key == "trusted.overlay.redirect" || key == "trusted.overlay.metacopy":
			// Both are switched off when the guest mounts the overlay: such a file is not all there.
			return fmt.Errorf("the overlay used %s", key)
		case strings.HasPrefix(key, "trusted.overlay."):
			delete(n.xattrs, key)
		}
	}
	switch h.Typeflag {
	case tar.TypeLink:
		target := t.get(path.Clean(h.Linkname))
		if target == nil || target.isDir() {
			return fmt.Errorf("a hard link to %s, which is no file before it", h.Linkname)
		}
		return t.put(name, target)
	case tar.TypeReg:
		var err error
		if n.data, err = sp.add(r, h.Size); err != nil {
			return err
		}
	case tar.TypeDir:
		if opaque {
			t.remove(name)
		}
	case tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
	default:
		return fmt.Errorf("an entry of the type %q, want a file, folder, link, device or FIFO", h.Typeflag)
	}
	return t.put(name, n)
}

// checkHeader refuses numbers that an inode has no room for: to cut them would make another owner or device of them.
func checkHeader(h *tar.Header) error {
	const owners, majors, minors = 1<<32 - 1, 1 << 12, 1 << 20
	switch {
	case h.Uid < 0 || h.Uid >= owners || h.Gid < 0 || h.Gid >= owners:
		return fmt.Errorf("the owner is %d:%d, want numbers below %d", h.Uid, h.Gid, owners)
	case h.Devmajor < 0 || h.Devmajor >= majors || h.Devminor < 0 || h.Devminor >= minors:
		return fmt.Errorf("the device is %d:%d, want numbers below %d:%d", h.Devmajor, h.Devminor, majors, minors)
	}
	return nil
}

// omission is something that a configured root must not carry into the image.
type omission struct {
	pattern string // path.Match; a folder goes with all that is in it. 'DIR/**' is every file below DIR, folders stay
	reason  string
}

var omissions = []omission{
	{policyRcD, "forbade the starting of daemons while packages were configured; a build may have its own idea"},
	{"etc/ssh/ssh_host_*", "host keys are random, and an image with keys in it is a secret; each run brings its own"},
	{"var/lib/dbus/machine-id", "random"},
	{"etc/.pwd.lock", "a lock of passwd(1), empty"},
	{"etc/*-", "backups that passwd(1) makes of passwd, group, shadow, gshadow, subuid, subgid"},
	{"etc/ld.so.cache~", "left by an interrupted ldconfig"},
	{"var/backups/**", "copies of dpkg's database by date"},
	{"var/cache/ldconfig/aux-cache", "inode numbers and change times of the disk that it was made on"},
	{"var/cache/debconf/*-old", "debconf's state one question earlier"},
	{"var/cache/apt/**", "a cache of what no guest can fetch"},
	{"var/lib/dpkg/*-old", "dpkg's database one step earlier"},
	{"var/lib/dpkg/lock*", "locks, empty"},
	{"var/lib/dpkg/triggers/Lock", "a lock, empty"},
	{"var/lib/dpkg/tmp.ci", "dpkg's work folder"},
	{"var/lib/dpkg/belljar", "the plan of configuring"},
	{"var/lib/dpkg/updates/*", "dpkg's journal, folded into status when it ended"},
	{"var/lib/ucf/*.[0-9]", "ucf's state some steps earlier"},
	{"var/log/**", "logs carry dates and durations; those of logins stay, empty"},
	{"var/tmp/*", "temporary"},
	{"tmp/*", "temporary; a tmpfs in the guest"},
	{"run/*", "a tmpfs in the guest"},
	{"dev/*", "devtmpfs in the guest"},
	{"belljar/*", "a tmpfs in the guest"},
	{"build/*", "the scratch disk in the guest"},
	{"inputs/*", "the input disk in the guest"},
	{"root/.*_history", "of no use to a build"},
	{"root/.cache", "of no use to a build"},
}

// logins are the records of who was logged in. base-files and login make them, empty, and programs expect them.
var logins = []string{"var/log/btmp", "var/log/faillog", "var/log/lastlog", "var/log/wtmp"}

func (o omission) covers(name string, n *node) bool {
	if dir, ok := strings.CutSuffix(o.pattern, "/**"); ok {
		return !n.isDir() && strings.HasPrefix(name, dir+"/")
	}
	ok, _ := path.Match(o.pattern, name)
	return ok
}

// leaveOut takes the omissions out, and empties the machine id: systemd's machine-id(5) says that an empty file
// means 'not yet set'.
func leaveOut(t *tree, clock time.Time) error {
	var gone []string
	for name, n := range t.all() {
		if slices.ContainsFunc(omissions, func(o omission) bool { return o.covers(name, n) }) && !slices.Contains(logins, name) {
			gone = append(gone, name)
		}
	}
	for _, name := range logins {
		if n := t.get(name); n != nil && n.mode&typeMask == typeFile {
			emptied := *n
			emptied.size, emptied.data = 0, nil
			if err := t.put(name, &emptied); err != nil {
				return err
			}
		}
	}
	for _, name := range gone {
		t.remove(name)
	}
	if t.get("etc/machine-id") != nil {
		return t.text("etc/machine-id", 0o444, clock, "")
	}
	return nil
}
