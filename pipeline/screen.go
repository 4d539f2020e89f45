package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
)

// serveScreen passes VNC connections on to the machine. Belljar listens and not QEMU, which has no network.
func (h *house) serveScreen(ctx context.Context, network, address string, g vm.Guest) (net.Listener, error) {
	screen, ok := g.(vm.Viewed)
	if !ok {
		return nil, fault.New(fault.Usage, "serve screen", "this backend's machines serve none").WithRemedy("use --backend qemu")
	}
	l, err := new(net.ListenConfig).Listen(ctx, network, address)
	if err != nil {
		return nil, fault.New(fault.Host, "serve screen", "%w", err).
			WithRemedy("give an address and a port of this host that are free, like 127.0.0.1:5901")
	}
	go func() {
		for {
			viewer, err := l.Accept()
			if err != nil {
				return
			}
			go passOn(ctx, viewer, screen)
		}
	}()
	return l, nil
}

// passOn connects a viewer with the screen until either is gone.
func passOn(ctx context.Context, viewer net.Conn, screen vm.Viewed) {
	defer viewer.Close()
	vnc, err := screen.DialScreen(ctx)
	if err != nil {
		return
	}
	defer vnc.Close()
	go func() {
		_, _ = io.Copy(vnc, viewer)
		vnc.Close()
	}()
	_, _ = io.Copy(viewer, vnc)
}

// viewers are programs that show a screen served over VNC on a Unix socket, which nobody else on this host can open. They are
// looked for in this order. (remote-viewer 11 and vncviewers other than TigerVNC's cannot.)
var viewers = []string{"xtigervncviewer", "gvncviewer"}

// findViewer is the first viewer that is installed, for a person who has a desktop.
func findViewer() (program string, err error) {
	const op = "show screen"
	if cmp.Or(os.Getenv("WAYLAND_DISPLAY"), os.Getenv("DISPLAY")) == "" {
		return "", fault.New(fault.Usage, op, "there is no desktop here to open a window on: neither DISPLAY nor WAYLAND_DISPLAY is set").
			WithRemedy("serve the screen by --vnc 127.0.0.1:5901, and look at it from where there is one")
	}
	for _, name := range viewers {
		if _, err := exec.LookPath(name); err == nil {
			return name, nil
		}
	}
	return "", fault.New(fault.Host, op, "no program that shows a screen is installed: neither %s", strings.Join(viewers, " nor ")).
		WithRemedy("install one: apt-get install tigervnc-viewer")
}

// window is a machine's screen on the desktop.
type window struct {
	screen net.Listener
	dir    string // has its socket
	viewer *exec.Cmd
}

// openWindow shows the machine's screen by a viewer, which runs as the person does and not as QEMU: QEMU can reach no desktop.
func (h *house) openWindow(ctx context.Context, g vm.Guest, viewer string) (_ *window, err error) {
	w := &window{}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	if w.dir, err = os.MkdirTemp("", "belljar-screen-"); err != nil { // a socket's path is short
		return nil, fault.New(fault.Host, "show screen", "%w", err)
	}
	socket := filepath.Join(w.dir, "vnc")
	if w.screen, err = h.serveScreen(ctx, "unix", socket, g); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, viewer, socket)
	if err := cmd.Start(); err != nil {
		return nil, fault.New(fault.Host, "show screen", "%w", err)
	}
	w.viewer = cmd
	h.note(PhaseSmoke, fmt.Sprintf("its screen is in the window of %s", viewer))
	return w, nil
}

// Close closes the window.
func (w *window) Close() error {
	if w.viewer != nil {
		_ = w.viewer.Process.Kill() // it may be closed already
		_ = w.viewer.Wait()
	}
	if w.screen != nil {
		w.screen.Close()
	}
	if err := os.RemoveAll(w.dir); err != nil {
		return fault.New(fault.Host, "show screen", "%w", err)
	}
	return nil
}
