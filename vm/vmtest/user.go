package vmtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// nobody is a user without privileges (and the last of Debian's 16-bit ones).
const nobody = 65534

// AsOtherUser runs the calling test once more as a user without privileges, where it runs as root; elsewhere it does
// nothing, for then all tests run so. It must not be called from a subtest.
func AsOtherUser(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}
	name := t.Name()
	t.Run("as another user", func(t *testing.T) {
		// The test program's own folder, and those of tests, are for the user of 'go test' alone.
		dir, err := os.MkdirTemp("", "other")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		self, err := os.ReadFile("/proc/self/exe")
		if err != nil {
			t.Fatal(err)
		}
		program := filepath.Join(dir, "test")
		if err := os.WriteFile(program, self, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{dir, program} { // whatever the umask
			if err := os.Chmod(path, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.CommandContext(t.Context(), program, "-test.run", "^"+name+"$", "-test.v")
		if cmd.Dir, err = os.Getwd(); err != nil {
			t.Fatal(err)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+name) {
			t.Errorf("%v\n%s", err, out)
		}
	})
}
