package specs

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/fault/fulldisk"
)

// A lock for which there is no room: the old one stands, and the user reads whose fault it is, where, and what to do.
func TestLockOnAFullDisk(t *testing.T) {
	loaded, err := Load("seabios")
	if err != nil {
		t.Fatal(err)
	}
	lock, err := LoadLock(loaded, "")
	if err != nil {
		t.Fatal(err)
	}
	fulldisk.Each(t, func(t *testing.T, d *fulldisk.Disk) {
		name, old := filepath.Join(d.Dir, "my.lock.json"), []byte("the old lock\n")
		if err := os.WriteFile(name, old, 0o644); err != nil {
			t.Fatal(err)
		}
		stands := func(want []byte) {
			t.Helper()
			if now, err := os.ReadFile(name); !bytes.Equal(now, want) {
				t.Errorf("not the lock that should stand: %d bytes, want %d; %v", len(now), len(want), err)
			}
		}

		d.Leave(4 << 10) // less than a lock's length: it breaks off within
		err := lock.WriteFile(name)
		says := map[fulldisk.How]string{fulldisk.Tmpfs: "no space left on device", fulldisk.Limit: "file too large"}[d.How]
		if fault.KindOf(err) != fault.Host || !strings.HasPrefix(err.Error(), "write lock: ") ||
			!strings.Contains(err.Error(), says) {
			t.Fatalf("%v: %v, want %v: write lock: … %s", fault.KindOf(err), err, fault.Host, says)
		}
		remedies := ""
		for _, e := range fault.Chain(err) {
			remedies += e.Remedy + "\n"
		}
		if want := "make sure that " + d.Dir + " can be written and its disk has room"; !strings.HasPrefix(remedies, want) {
			t.Errorf("remedy: %s, want %s", remedies, want)
		}
		stands(old)
		if left, err := filepath.Glob(filepath.Join(d.Dir, ".my*")); len(left) > 0 || err != nil {
			t.Errorf("left: %v, %v", left, err)
		}

		d.MakeRoom()
		if err := lock.WriteFile(name); err != nil {
			t.Errorf("with room: %v", err)
		}
		stands(lock.Marshal())
	})
}
