// Package libvirttest starts a real libvirtd for tests: in the foreground, on sockets of its own, with a folder and a
// storage pool of its own, as an unprivileged user, and without systemd. It touches nothing of the system's own libvirt.
//
// It refuses to leave a process behind: a keeper, the test program run anew, holds everything that libvirtd starts, and
// kills it when the test ends, however it ends.
package libvirttest

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
)

// Pool is the name of the storage pool.
const Pool = "belljar"

// nobody is who libvirtd runs as when the test is root's: on Debian, the user of that name.
const nobody = 65534

// startTime is how long libvirtd may take to answer: it asks each QEMU there is for its capabilities.
const startTime = 2 * time.Minute

// Server is a running libvirtd.
type Server struct {
	URI    string // over its Unix socket
	TCP    string // over TCP on the loopback interface, without any authentication
	Socket string // path of the socket
	Dir    string // its folder
	PID    int    // of libvirtd

	keeper *exec.Cmd
	death  *os.File
}

// Start starts a libvirtd that ends with the test. It needs libvirt-daemon and QEMU, and Main to have been called in
// TestMain.
func Start(t testing.TB) *Server {
	t.Helper()
	s, err := start()
	if err != nil {
		t.Fatalf("start libvirtd: %v (scripts/setup test installs what it needs)", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(s.Dir, "libvirtd.log"))
			t.Logf("libvirtd said:\n%s", log)
		}
		s.stop()
	})
	if err := s.makePool(); err != nil {
		t.Fatalf("storage pool: %v", err)
	}
	return s
}

func start() (_ *Server, err error) {
	if !hooked {
		return nil, fmt.Errorf("libvirttest.Main was not called first thing in TestMain")
	}
	var paths []string
	for _, name := range []string{"virtlogd", "libvirtd"} {
		path, err := lookPath(name)
		if err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	// A short path: a socket's has at most 107 bytes.
	dir, err := os.MkdirTemp("/tmp", "lv")
	if err != nil {
		return nil, err
	}
	s := &Server{Dir: dir, Socket: filepath.Join(dir, "run/libvirt/libvirt-sock")}
	s.URI = "qemu:///session?socket=" + s.Socket
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	if err := s.prepare(); err != nil {
		return nil, err
	}
	if err := s.keep(paths); err != nil {
		return nil, err
	}
	for end := time.Now().Add(startTime); ; time.Sleep(20 * time.Millisecond) {
		l, err := s.connect()
		if err == nil {
			return s, l.Disconnect()
		}
		if syscall.Kill(s.PID, 0) != nil || time.Now().After(end) {
			log, _ := os.ReadFile(filepath.Join(dir, "libvirtd.log"))
			return nil, fmt.Errorf("it does not answer: %w\n%s", err, log)
		}
	}
}

// lookPath finds a daemon: they lie where users do not look.
func lookPath(name string) (string, error) {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed", name)
}

// prepare makes the folders and libvirtd's configuration.
func (s *Server) prepare() error {
	port, err := freePort()
	if err != nil {
		return err
	}
	s.TCP = "qemu+tcp://127.0.0.1:" + port + "/session"
	conf := "listen_tls = 0\nlisten_tcp = 1\nauth_tcp = \"none\"\nlisten_addr = \"127.0.0.1\"\ntcp_port = \"" + port + "\"\n" +
		"unix_sock_rw_perms = \"0777\"\n"
	for _, name := range []string{"", "home", "run", "config", "config/libvirt", "cache", "data", "pool"} {
		path := filepath.Join(s.Dir, name)
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		if os.Getuid() == 0 {
			if err := os.Chown(path, nobody, nobody); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(filepath.Join(s.Dir, "config/libvirt/libvirtd.conf"), []byte(conf), 0o644)
}

func freePort() (string, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port), nil
}

// environment is all that the daemons see of the test's: their own folders (docs/daemons.html of libvirt, session mode).
func (s *Server) environment() []string {
	env := []string{"LC_ALL=C", "TZ=UTC", "PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin"}
	for name, dir := range map[string]string{
		"HOME": "home", "XDG_RUNTIME_DIR": "run", "XDG_CONFIG_HOME": "config", "XDG_CACHE_HOME": "cache",
		"XDG_DATA_HOME": "data",
	} {
		env = append(env, name+"="+filepath.Join(s.Dir, dir))
	}
	return env
}

// keep starts the keeper, and through it the daemons.
func (s *Server) keep(paths []string) error {
	o := order{Dir: s.Dir, Env: s.environment(), Root: os.Getuid() == 0}
	o.Commands = [][]string{{paths[0]}, {paths[1], "--listen"}}
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	deathR, deathW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer deathR.Close()
	s.death = deathW
	s.keeper = &exec.Cmd{Path: "/proc/self/exe", Args: []string{"libvirttest-keeper"}}
	s.keeper.Env = append(os.Environ(), variable+"="+string(text))
	s.keeper.ExtraFiles = []*os.File{deathR}
	s.keeper.Stderr = os.Stderr
	s.keeper.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := s.keeper.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.keeper.Start(); err != nil {
		return err
	}
	if _, err := fmt.Fscan(out, &s.PID); err != nil {
		return fmt.Errorf("keeper: %w", err)
	}
	return nil
}

// stop ends the keeper, which ends everything else, and removes the folder.
func (s *Server) stop() {
	if s.death != nil {
		s.death.Close()
	}
	if s.keeper != nil && s.keeper.Process != nil {
		_ = s.keeper.Wait()
	}
	_ = os.RemoveAll(s.Dir)
}

func (s *Server) connect() (*libvirt.Libvirt, error) {
	l := libvirt.NewWithDialer(dialers.NewLocal(dialers.WithSocket(s.Socket)))
	return l, l.ConnectToURI(libvirt.QEMUSession)
}

func (s *Server) makePool() error {
	l, err := s.connect()
	if err != nil {
		return err
	}
	defer func() { _ = l.Disconnect() }()
	_, err = l.StoragePoolCreateXML(fmt.Sprintf(
		"<pool type='dir'><name>%s</name><target><path>%s</path></target></pool>", Pool, filepath.Join(s.Dir, "pool")), 0)
	return err
}

// Files lists what lies in the pool's folder.
func (s *Server) Files(t testing.TB) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.Dir, "pool"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// QEMUs are the process ids of the machines that run, those of one domain, or of all if its name is empty.
func (s *Server) QEMUs(t testing.TB, domain string) []int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.Dir, "run/libvirt/qemu/run", domain+"*.pid"))
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, f := range files {
		text, _ := os.ReadFile(f)
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && strings.Contains(exe, "qemu-system") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Kill ends libvirtd as a crash would.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	if err := syscall.Kill(s.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), startTime)
	defer cancel()
	for syscall.Kill(s.PID, 0) == nil {
		select {
		case <-ctx.Done():
			t.Fatalf("libvirtd (%d) does not die", s.PID)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
