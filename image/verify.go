package image

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // what dpkg's database has; the image as a whole is held against its SHA-256
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/image/debian"
)

// Deviation is one way in which an image is not what its packages say.
type Deviation struct {
	Package string `json:"package"`
	Path    string `json:"path,omitempty"` // absolute; empty where the package as a whole is meant
	Is      string `json:"is"`             // 'missing', 'changed', or what else is the matter
}

func (d Deviation) String() string {
	if d.Path == "" {
		return d.Package + " is " + d.Is
	}
	return d.Path + " of " + d.Package + " is " + d.Is
}

// Verify does what 'dpkg --audit' and 'dpkg --verify' do in a guest (src/main/verify.c), without a guest: each package
// must be installed, each of its files must be there, under the name that a diversion gave it, and have the MD5 that
// the package (info/*.md5sums) or, of a conffile, its status says. A whole image takes a second: its bytes are all read.
func (m *Image) Verify(ctx context.Context) ([]Deviation, error) {
	t, err := m.files()
	if err != nil {
		return nil, err
	}
	v := verifier{tree: t, diversions: map[string]diversion{}}
	if err := v.readDiversions(); err != nil {
		return nil, m.badDatabase(err)
	}
	status := t.get(dpkgDir + "status")
	if status == nil {
		return nil, m.badDatabase(errors.New("there is no /" + dpkgDir + "status"))
	}
	data, err := status.read(maxStatus)
	if err != nil {
		return nil, m.badDatabase(err)
	}
	r := debian.NewParagraphReader("/"+dpkgDir+"status", bytes.NewReader(data),
		"Package", "Architecture", "Multi-Arch", "Status", "Conffiles")
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			return v.found, nil
		}
		if err != nil {
			return nil, m.badDatabase(err)
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := v.pkg(p); err != nil {
			return nil, m.badDatabase(err)
		}
	}
}

func (m *Image) badDatabase(err error) error {
	return fault.New(fault.Input, "verify "+m.Name, "%w", err).
		WithRemedy("Only an image of Debian packages can be verified, and only with its dpkg database whole.")
}

// diversion is an entry of /var/lib/dpkg/diversions.
type diversion struct{ to, pkg string }

type verifier struct {
	tree       *tree
	diversions map[string]diversion
	found      []Deviation
}

// readDiversions reads the triples of lines: a path, where it is diverted to, the package that has the path now
// (lib/dpkg/db-fsys-divert.c). ":" is the local administrator.
func (v *verifier) readDiversions() error {
	lines, err := v.lines(dpkgDir + "diversions")
	if err != nil {
		return err
	}
	for ; len(lines) >= 3; lines = lines[3:] {
		v.diversions[lines[0]] = diversion{lines[1], lines[2]}
	}
	if len(lines) > 0 {
		return errors.New("/" + dpkgDir + "diversions does not consist of triples of lines")
	}
	return nil
}

// pkg looks at one package of the status.
func (v *verifier) pkg(p *debian.Paragraph) error {
	name := p.Get("Package")
	if state := p.Get("Status"); state != "install ok installed" {
		if !strings.HasSuffix(state, " not-installed") && !strings.HasSuffix(state, " config-files") {
			v.found = append(v.found, Deviation{name, "", "'" + state + "', want 'install ok installed'"})
		}
		return nil
	}
	stem := dpkgDir + "info/" + debian.InfoName(name, p.Get("Architecture"), p.Get("Multi-Arch"))
	list, err := v.lines(stem + ".list")
	if err != nil {
		return err
	}
	sums, err := v.sums(stem+".md5sums", p.Get("Conffiles"))
	if err != nil {
		return err
	}
	// dpkg takes a path that has a sum and is in no list for missing just the same.
	for _, file := range slices.Sorted(maps.Keys(sums)) {
		if !slices.Contains(list, file) {
			list = append(list, file)
		}
	}
	for _, file := range list {
		is, err := v.file(name, file, sums[file])
		if err != nil {
			return err
		}
		if is != "" {
			v.found = append(v.found, Deviation{name, file, is})
		}
	}
	return nil
}

// sums are the MD5s of a package's files by their absolute paths: of its md5sums member, and of its conffiles.
func (v *verifier) sums(member, conffiles string) (map[string]string, error) {
	sums := map[string]string{}
	lines, err := v.lines(member)
	if err != nil {
		return nil, err
	}
	for _, line := range lines {
		if sum, file, ok := strings.Cut(line, " "); ok {
			sums["/"+strings.TrimPrefix(strings.TrimLeft(file, " *"), "./")] = sum
		}
	}
	for line := range strings.SplitSeq(conffiles, "\n") {
		f := strings.Fields(line)
		if len(f) < 2 || slices.Contains(f[2:], "obsolete") || slices.Contains(f[2:], "remove-on-upgrade") {
			continue
		}
		sums[f[0]] = f[1]
	}
	return sums, nil
}

// file says what is the matter with a file; nothing if all is well.
func (v *verifier) file(pkg, file, sum string) (string, error) {
	if d, ok := v.diversions[file]; ok && d.pkg != pkg {
		file = d.to
	}
	name, err := v.tree.resolve(strings.TrimPrefix(path.Clean(file), "/"))
	if err != nil {
		return "", err
	}
	n := v.tree.get(name)
	if n == nil {
		return "missing", nil
	}
	if sum == "" || n.mode&typeMask == typeDir {
		return "", nil
	}
	// A conffile may have become a link (ucf, alternatives): dpkg reads through it.
	for hops := 0; n != nil && n.mode&typeMask == typeLink && hops < 40; hops++ {
		to := n.link
		if !path.IsAbs(to) {
			to = path.Join(path.Dir("/"+name), to)
		}
		if name, err = v.tree.resolve(strings.TrimPrefix(path.Clean(to), "/")); err != nil {
			return "", err
		}
		n = v.tree.get(name)
	}
	if n == nil || n.mode&typeMask != typeFile {
		return "changed", nil
	}
	hash := md5.New() //nolint:gosec // see the import
	if n.data != nil {
		if _, err := io.Copy(hash, n.reader()); err != nil {
			return "", err
		}
	}
	if hex.EncodeToString(hash.Sum(nil)) != sum {
		return "changed", nil
	}
	return "", nil
}

// lines are those of a file of the database that may not be there.
func (v *verifier) lines(name string) ([]string, error) {
	n := v.tree.get(name)
	if n == nil {
		return nil, nil
	}
	data, err := n.read(maxOwned)
	if err != nil {
		return nil, err
	}
	if len(data) == 0 {
		return nil, nil
	}
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n"), nil
}
