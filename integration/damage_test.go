package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// licences are files that every Debian has and that nothing needs to boot or to build; their text lies in the image as
// it is. One of them is version 3 of the GPL.
const licences = "/usr/share/common-licenses"

// One bit of the image is another than it was: the guest's kernel notices when it reads that block, the build fails
// although its script overlooks the error, nothing of it is kept, and the next build makes the image anew.
func TestDamagedImage(t *testing.T) {
	needMachines(t)
	b := cloneWithDamage(t)
	spec := b.spec("reader", toySpec("reader", "      cat "+licences+"/* >/dev/null || true\n      >$OUT/rom.bin"))
	before := b.objects()
	o := b.exit(3, "build", spec, "--json")
	f := o.failure(t)
	contains(t, "failure", f.all(), "image damaged", "is corrupted", "moved aside", "belljar build makes it anew")
	if damaged := b.list("damaged"); len(damaged) != 1 {
		t.Errorf("moved aside: %q, want the image", damaged)
	}
	if after := b.objects(); after != before-1 {
		t.Errorf("the store has %d objects, before it had %d: want one less", after, before)
	}

	p := b.start(nil, "build", spec, "--json")
	p.awaitPhase("unpack")
	p.signal(syscall.SIGINT)
	p.waitFor(patience)
}

// The whole way: the image is made anew, to the same bytes, and the build passes.
func TestSlowDamagedImageIsMended(t *testing.T) {
	needMachines(t)
	if os.Getenv("BELLJAR_SLOW") != "1" {
		t.Skip("makes an image; asked for by BELLJAR_SLOW=1")
	}
	b := cloneWithDamage(t)
	spec := b.spec("reader", toySpec("reader", "      cat "+licences+"/* >/dev/null\n      echo made >$OUT/rom.bin"))
	b.exit(3, "build", spec)
	b.succeed("build", spec)
	damaged := b.list("damaged")
	if len(damaged) != 1 {
		t.Fatalf("moved aside: %q, want the image", damaged)
	}
	if _, err := os.Stat(b.object(damaged[0])); err != nil {
		t.Errorf("the image was not made anew to the same bytes: %v", err)
	}
}

// cloneWithDamage is a clone of the shared folder in which one bit of the image differs. The shared image is left as it
// is: the clone's is a copy.
func cloneWithDamage(t *testing.T) *belljar {
	t.Helper()
	shared := onShared(t)
	spec := shared.spec("looker", toySpec("looker", "      true"))
	var image struct{ Digest string }
	shared.succeed("image", "build", spec, "--json").result(t, &image)
	b := onClone(t, "bundles", "kernels", "images")
	path := b.object(image.Digest)
	must(t, os.Remove(path)) // a hard link to the shared one
	must(t, copyBig(shared.object(image.Digest), path))
	must(t, flip(path, []byte("13. Use with the GNU Affero General Public License.")))
	return b
}

// object is where the store has it.
func (b *belljar) object(digest string) string {
	return filepath.Join(b.dir, "store", "objects", digest[:2], digest)
}

func (b *belljar) list(folder string) []string {
	b.t.Helper()
	entries, err := os.ReadDir(filepath.Join(b.dir, "store", folder))
	must(b.t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func (b *belljar) objects() int {
	n := 0
	for _, prefix := range b.list("objects") {
		n += len(b.list(filepath.Join("objects", prefix)))
	}
	return n
}

func copyBig(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	_, err = io.Copy(out, in)
	return err
}

// flip changes a bit in each place where the file has this text, of which there must be one.
func flip(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	flipped := 0
	for off := int64(0); ; off += int64(len(buf) - len(text)) {
		n, err := f.ReadAt(buf, off)
		for at := 0; ; flipped++ {
			i := bytes.Index(buf[at:n], text)
			if i < 0 {
				break
			}
			at += i + len(text)
			if _, err := f.WriteAt([]byte{text[0] ^ 1}, off+int64(at-len(text))); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF) && flipped > 0:
			return nil
		case err != nil:
			return fmt.Errorf("%q in %s: %d times: %w", text, path, flipped, err)
		}
	}
}
