package pipeline

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
)

// seen is a machine with a screen, which greets.
type seen struct{ vm.Guest }

func (seen) DialScreen(context.Context) (net.Conn, error) {
	viewer, screen := net.Pipe()
	go func() { _, _ = io.WriteString(screen, "RFB 003.008\n") }()
	return viewer, nil
}

// A window that cannot be opened leaves nothing behind, and says why.
func TestNoWindow(t *testing.T) {
	for _, c := range []struct {
		name   string
		guest  vm.Guest
		viewer string
		want   fault.Kind
	}{
		{"no screen", struct{ vm.Guest }{}, "true", fault.Usage},
		{"no viewer", seen{}, "/no/such/viewer", fault.Host},
	} {
		t.Run(c.name, func(t *testing.T) {
			tmp := t.TempDir()
			t.Setenv("TMPDIR", tmp)
			w, err := new(house).openWindow(t.Context(), c.guest, c.viewer)
			if w != nil || fault.KindOf(err) != c.want {
				t.Errorf("%+v, %v; want no window and a fault of kind %v", w, err, c.want)
			}
			if left, _ := filepath.Glob(filepath.Join(tmp, "*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// What the viewer gets is the machine's screen; closed, it is ended and its folder is gone.
func TestWindow(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	h := &house{}
	viewer := filepath.Join(t.TempDir(), "viewer")
	if err := os.WriteFile(viewer, []byte("#!/bin/sh\nexec sleep 600\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	w, err := h.openWindow(t.Context(), seen{}, viewer)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", filepath.Join(w.dir, "vnc"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	greeting := make([]byte, 12)
	if _, err := io.ReadFull(conn, greeting); err != nil || string(greeting) != "RFB 003.008\n" {
		t.Errorf("%q, %v", greeting, err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(w.dir); !os.IsNotExist(err) {
		t.Errorf("its folder: %v", err)
	}
	if w.viewer.ProcessState == nil {
		t.Error("the viewer is still there")
	}
}
