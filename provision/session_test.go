package provision

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/guest-agent/wire"
)

// wantFault checks a failure's kind, words and evidence.
func wantFault(t *testing.T, err error, kind fault.Kind, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %v", kind)
	}
	text := err.Error()
	for _, f := range fault.Chain(err) {
		for _, e := range f.Evidence {
			text += "\n" + e.Title + ":\n" + e.Text
		}
	}
	if fault.KindOf(err) != kind {
		t.Errorf("%v, want %v: %s", fault.KindOf(err), kind, text)
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("error does not say %q: %s", w, text)
		}
	}
}

func sha(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// keep is a put for ReadOutputs that remembers, by path and mode.
func keep(got map[string]string) func(Output, io.Reader) error {
	return func(o Output, r io.Reader) error {
		b, err := io.ReadAll(r)
		if err == nil && o.Size >= 0 && int64(len(b)) != o.Size {
			err = fmt.Errorf("%d bytes for %d", len(b), o.Size)
		}
		got[fmt.Sprintf("%s %o", o.Path, o.Mode)] = string(b)
		return err
	}
}

func TestWholePath(t *testing.T) {
	g := newGuest(t)
	src := filepath.Join(g.dir, "inputs", "seabios")
	if err := os.MkdirAll(src, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(src, "Makefile"), []byte("original\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(g.dir, "tmp", "left-over"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var steps []string
	g.start()
	var info os.FileInfo
	for info == nil {
		time.Sleep(time.Millisecond)
		info, _ = os.Stat(g.dir + "/belljar/agent.sock")
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the agent's socket is %s: others than root may connect", info.Mode())
	}
	opts := g.options()
	opts.Progress = func(text string) { steps = append(steps, text) }
	s, err := Open(t.Context(), g.dial, g.keys, "x86_64", opts)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := os.Stat(g.dir + "/belljar/agent.sock"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the agent's socket is there still: %v", err)
	}
	if s.Hello.AgentSHA256 != sha(agentBin) || s.Hello.PID == 0 {
		t.Errorf("hello = %+v", s.Hello)
	}

	st := g.stage(`
		echo changed >$SOURCES/seabios/Makefile
		rm -f /nowhere; env | grep -v -e '^PWD=' -e '^_=' -e '^OLDPWD=' | sort | cut -d= -f1
		umask; read x || echo no stdin
		cut -d' ' -f6 /proc/self/stat >/dev/null
		grep NoNewPrivs /proc/self/status
		ls `+g.dir+`/tmp | wc -l
		echo to stderr >&2
		mkdir $OUT/sub
		printf ROM >$OUT/bios.bin; chmod 4755 $OUT/bios.bin
		printf map >$OUT/sub/bios.map
		printf 'no newline'`, "sub/bios.map", "bios.bin")
	st.Env["SOURCES"] = g.dir + "/build/sources"
	st.Sources = []wire.Mount{{From: "seabios", To: g.dir + "/build/sources/seabios"}}
	for round := range 2 { // the second time everything is as it was the first
		os.RemoveAll(st.OutDir)
		var log []string
		res, err := s.Run(t.Context(), st, func(line string) { log = append(log, line) })
		if err != nil {
			t.Fatal(err)
		}
		want := "HOME|OUT|PATH|SOURCES|0022|no stdin|NoNewPrivs:\t1|0|to stderr|no newline"
		if got := strings.Join(log, "|"); got != want {
			t.Errorf("round %d: log\n got %s\nwant %s", round, got, want)
		}
		if u := res.Usage; u.Wall <= 0 || u.MaxRSS <= 0 || u.User+u.System <= 0 {
			t.Errorf("measured nothing: %+v", res)
		}
		got := map[string]string{}
		if err := ReadOutputs(t.Context(), onDisk(g.disk()), st.Outputs, res.Stream, keep(got)); err != nil {
			t.Fatal(err)
		}
		if got["bios.bin 755"] != "ROM" || got["sub/bios.map 644"] != "map" || len(got) != 2 {
			t.Errorf("outputs = %v", got)
		}
	}
	if b, _ := os.ReadFile(filepath.Join(src, "Makefile")); string(b) != "original\n" {
		t.Errorf("the input disk was changed: %q", b)
	}
	if len(steps) < 4 {
		t.Errorf("steps = %q", steps)
	}

	seal, err := s.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(seal.Interfaces) == 0 || seal.IPLink == "" || !strings.HasPrefix(seal.Kernel, "Linux ") || seal.Sealed != (len(seal.Leaks) == 0) {
		t.Errorf("seal = %+v", seal)
	}
	if err := s.Poweroff(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 500 {
		if _, err = os.Stat(filepath.Join(g.dir, "belljar", "poweroff")); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		t.Error("not powered off:", err)
	}
}

func TestStageFails(t *testing.T) {
	tests := map[string]struct {
		script  string
		outputs []string
		change  func(*wire.Stage)
		words   []string
	}{
		"exit 3":        {script: "echo one; echo two >&2; exit 3", words: []string{"stage rom", "script exited 3", "last lines of the log", "one\ntwo"}},
		"first error":   {script: "false; echo unreached", words: []string{"script exited 1"}},
		"unset":         {script: "echo $NOTHING", words: []string{"script exited 2", "rom.sh", "NOTHING"}},
		"signal":        {script: "kill -SEGV $$", words: []string{"script killed by SIGSEGV"}},
		"child signal":  {script: "sh -c 'kill -SEGV $$'", words: []string{"script exited 139", "signal 11"}},
		"missing":       {script: "true", outputs: []string{"bios.bin"}, words: []string{"output bios.bin is missing"}},
		"a folder":      {script: "mkdir $OUT/bios.bin", outputs: []string{"bios.bin"}, words: []string{"not a regular file"}},
		"a symlink":     {script: "ln -s /etc/passwd $OUT/bios.bin", outputs: []string{"bios.bin"}, words: []string{"not a regular file"}},
		"symlinked dir": {script: "ln -s /etc $OUT/etc", outputs: []string{"etc/passwd"}, words: []string{"output etc/passwd", "escapes"}},
		"timeout": {
			script: "echo working; while :; do echo; sleep 0.05; done",
			change: func(s *wire.Stage) { s.Timeout = 300 * time.Millisecond },
			words:  []string{"timeout: still running after 300ms"},
		},
		"timeout with a daemon": {
			script: "setsid sh -c 'trap \"\" TERM HUP; exec sleep 1000' & sleep 1000",
			change: func(s *wire.Stage) { s.Timeout = 300 * time.Millisecond },
			words:  []string{"timeout"},
		},
		"silence": {
			script: "echo start; sleep 1000",
			change: func(s *wire.Stage) { s.Silence = 300 * time.Millisecond },
			words:  []string{"silence: no output for 300ms", "start"},
		},
		"silence with closed output": {
			script: "exec >/dev/null 2>&1; sleep 1000",
			change: func(s *wire.Stage) { s.Silence = 300 * time.Millisecond },
			words:  []string{"silence"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t)
			s := g.open()
			st := g.stage(tt.script, tt.outputs...)
			if tt.change != nil {
				tt.change(&st)
			}
			began := time.Now()
			res, err := s.Run(t.Context(), st, nil)
			wantFault(t, err, fault.Build, tt.words...)
			if res.Stream.Size != 0 {
				t.Errorf("a failed stage has outputs: %+v", res)
			}
			if d := time.Since(began); d > 20*time.Second {
				t.Errorf("took %s", d)
			}
			// The agent is still of use.
			if _, err := s.Run(t.Context(), g.stage("true"), nil); err != nil {
				t.Error("next stage:", err)
			}
		})
	}
}

func TestDaemonDoesNotOutliveStage(t *testing.T) {
	g := newGuest(t)
	s := g.open()
	pidFile := g.dir + "/pid"
	began := time.Now()
	_, err := s.Run(t.Context(), g.stage("setsid sh -c 'echo $$ >"+pidFile+"; exec sleep 1000' & while [ ! -s "+pidFile+" ]; do sleep 0.01; done"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("took %s", d)
	}
	pid, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/proc/" + strings.TrimSpace(string(pid))); err == nil {
		t.Errorf("process %s is alive", pid)
	}
}

func TestBadRequests(t *testing.T) {
	tests := map[string]struct {
		change func(*wire.Stage)
		words  string
	}{
		"output above":   {func(s *wire.Stage) { s.Outputs = []string{"../x"} }, `"../x"`},
		"no such source": {func(s *wire.Stage) { s.Sources = []wire.Mount{{From: "gone", To: s.WorkDir + "/gone"}} }, "not on the input disk"},
		"no such disk":   {func(s *wire.Stage) { s.Outputs, s.Device, s.Script = []string{"x"}, "none", "touch $OUT/x" }, "none"},
		"no folder":      {func(s *wire.Stage) { s.WorkDir = "" }, "folder"},
		"environment":    {func(s *wire.Stage) { s.Env["A=B"] = "" }, `"A=B"`},
	}
	g := newGuest(t)
	s := g.open()
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			st := g.stage("true")
			tt.change(&st)
			_, err := s.Run(t.Context(), st, nil)
			wantFault(t, err, fault.Guest, "stage rom", tt.words)
		})
	}
}

func TestDiskTooSmall(t *testing.T) {
	if err := os.WriteFile("/dev/full", nil, 0); err != nil && !errors.Is(err, os.ErrPermission) && !strings.Contains(err.Error(), "no space") {
		t.Skip("no /dev/full:", err)
	}
	g := newGuest(t)
	if err := errors.Join(os.Remove(g.disk()), os.Symlink("/dev/full", g.disk())); err != nil {
		t.Fatal(err)
	}
	_, err := g.open().Run(t.Context(), g.stage("echo >$OUT/x", "x"), nil)
	wantFault(t, err, fault.Build, "the outputs take more than the", "bytes of the output disk")
}

func TestLogFlood(t *testing.T) {
	g := newGuest(t)
	s := g.open()
	var n, size int
	var first, last, note string
	_, err := s.Run(t.Context(), g.stage("echo first; yes 0123456789012345678901234567890123456789012345678 | head -c 50000000; echo last"), func(line string) {
		if n == 0 {
			first = line
		}
		if strings.HasPrefix(line, "[") {
			note = line
		}
		n++
		size += len(line) + 1
		last = line
	})
	if err != nil {
		t.Fatal(err)
	}
	if first != "first" || last != "last" {
		t.Errorf("log goes from %q to %q", first, last)
	}
	if want := fmt.Sprintf("[%d bytes of the log left out here]", 50000000+6+5-16<<20); note != want {
		t.Errorf("note = %q, want %q", note, want)
	}
	if size < 16<<20 || size > 16<<20+200 {
		t.Errorf("log has %d bytes", size)
	}
}

// A host that reads slowly holds the script up; that is not the script's silence.
func TestSlowReaderIsNotSilence(t *testing.T) {
	g := newGuest(t)
	s := g.open()
	st := g.stage("head -c 4000000 /dev/zero | tr '\\0' 'x' | fold -w 1000; echo; echo end")
	st.Silence = 300 * time.Millisecond
	slept := false
	_, err := s.Run(t.Context(), st, func(string) {
		if !slept {
			slept = true
			time.Sleep(1200 * time.Millisecond)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCancel(t *testing.T) {
	g := newGuest(t)
	s := g.open()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.Run(ctx, g.stage("echo up; sleep 1000"), func(string) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := s.Run(t.Context(), g.stage("true"), nil); err != nil {
		t.Error("after a cancelled stage:", err)
	}
}

func TestCloseEndsStage(t *testing.T) {
	g := newGuest(t)
	s := g.open()
	_, err := s.Run(t.Context(), g.stage("echo $$; exec sleep 1000"), func(line string) {
		go s.Close()
		t.Cleanup(func() {
			<-g.ended
			if _, err := os.Stat("/proc/" + line); err == nil {
				t.Errorf("process %s is alive", line)
			}
		})
	})
	wantFault(t, err, fault.Guest, "stage rom", "lost")
}

func TestAgentLost(t *testing.T) {
	t.Run("agent killed", func(t *testing.T) {
		g := newGuest(t)
		_, err := g.open().Run(t.Context(), g.stage("echo last words; sleep 0.2; kill -9 $PPID; sleep 1"), nil)
		wantFault(t, err, fault.Guest, "stage rom", "guest-agent: lost", "connection closed", "last words")
	})
	t.Run("connection cut", func(t *testing.T) {
		g := newGuest(t)
		s := g.open()
		_, err := s.Run(t.Context(), g.stage("echo up; sleep 1000"), func(string) { g.cut() })
		wantFault(t, err, fault.Guest, "stage rom", "lost")
		_, err = s.Run(t.Context(), g.stage("true"), nil)
		wantFault(t, err, fault.Guest)
	})
}

func TestOpenRefuses(t *testing.T) {
	hello := func(h wire.Hello) []byte {
		body, err := json.Marshal(wire.Message{Kind: wire.KindHello, Hello: &h})
		if err != nil {
			t.Fatal(err)
		}
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
	}
	tests := map[string]struct {
		change func(*guest, *Options)
		words  []string
	}{
		"wrong protocol": {
			func(g *guest, _ *Options) { g.pretend(hello(wire.Hello{Protocol: 99}), false) },
			[]string{"guest-agent", "protocol 99", fmt.Sprintf("speaks %d", wire.Protocol)},
		},
		"another agent": {
			func(g *guest, o *Options) {
				g.start()
				o.Agent = []byte("of another belljar")
			},
			[]string{"guest-agent", "its SHA-256 is " + sha(agentBin)},
		},
		"agent that dies": {
			func(g *guest, _ *Options) { g.pretend(nil, true) },
			[]string{"lost", "connection closed"},
		},
		"agent that babbles": {
			func(g *guest, _ *Options) { g.pretend([]byte("Welcome to Debian"), false) },
			[]string{"lost", `bytes "Welc"`},
		},
		"no agent": {
			func(_ *guest, o *Options) { o.Greet = 300 * time.Millisecond },
			[]string{"guest-agent", "belljar/agent.sock", "open failed"},
		},
		"wrong host key": {
			func(g *guest, _ *Options) {
				other, err := NewKeys(rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				g.host = other.host
			},
			[]string{"host key is not the one made for this run"},
		},
		"client key not allowed": {
			func(g *guest, o *Options) {
				other, err := NewKeys(rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				g.keys = &Keys{host: g.keys.host, client: g.keys.client, files: other.files}
				o.Timeout = time.Second
			},
			[]string{"did not answer SSH within 1s", "unable to authenticate"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t)
			opts := g.options()
			tt.change(g, &opts)
			_, err := Open(t.Context(), g.dial, g.keys, "x86_64", opts)
			wantFault(t, err, fault.Guest, tt.words...)
		})
	}
}

func TestOpenWaits(t *testing.T) {
	t.Run("silent guest", func(t *testing.T) {
		dial := func(context.Context) (net.Conn, error) {
			c, other := net.Pipe()
			t.Cleanup(func() { other.Close() })
			return c, nil
		}
		opts := Options{Timeout: 300 * time.Millisecond, Agent: agentBin}
		_, err := Open(t.Context(), dial, newGuest(t).keys, "x86_64", opts)
		wantFault(t, err, fault.Guest, "guest did not answer SSH within 300ms")
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		dial := func(context.Context) (net.Conn, error) {
			c, other := net.Pipe()
			t.Cleanup(func() { other.Close() })
			cancel()
			return c, nil
		}
		_, err := Open(ctx, dial, newGuest(t).keys, "x86_64", Options{Agent: agentBin})
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Run("host fault of the dialler is final", func(t *testing.T) {
		dial := func(context.Context) (net.Conn, error) { return nil, fault.New(fault.Host, "qemu", "died") }
		_, err := Open(t.Context(), dial, newGuest(t).keys, "x86_64", Options{Agent: agentBin})
		wantFault(t, err, fault.Host, "died")
	})
	t.Run("a port that cannot be dialled again", func(t *testing.T) {
		n := 0
		dial := func(context.Context) (net.Conn, error) {
			if n++; n > 1 {
				return nil, fault.New(fault.Usage, "dial", "dialled before")
			}
			c, other := net.Pipe()
			other.Close()
			return c, nil
		}
		_, err := Open(t.Context(), dial, newGuest(t).keys, "x86_64", Options{Agent: agentBin})
		wantFault(t, err, fault.Guest, "the guest's SSH broke: handshake")
	})
	t.Run("third try", func(t *testing.T) {
		g := newGuest(t)
		n := 0
		dial := func(ctx context.Context) (net.Conn, error) {
			if n++; n < 3 {
				c, other := net.Pipe()
				other.Close()
				return c, nil
			}
			return g.dial(ctx)
		}
		g.start()
		s, err := Open(t.Context(), dial, g.keys, "x86_64", g.options())
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
	})
}

// stalling is a connection on which nothing arrives any more once it is stalled.
type stalling struct {
	net.Conn
	stalled atomic.Bool
	once    sync.Once
	closed  chan struct{}
}

func (c *stalling) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.stalled.Load() {
		<-c.closed
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *stalling) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// A guest can stand still when its SSH stands: who asks it for a sign of life finds out.
func TestGuestStandsStill(t *testing.T) {
	g := newGuest(t)
	var c *stalling
	dial := func(ctx context.Context) (net.Conn, error) {
		conn, err := g.dial(ctx)
		c = &stalling{Conn: conn, closed: make(chan struct{})}
		return c, err
	}
	lost := errors.New("no sign of life")
	ctx, stop := context.WithCancelCause(t.Context())
	waiting := make(chan struct{})
	opts := g.options()
	opts.Progress = func(text string) {
		if text == "waiting for the guest-agent" {
			c.stalled.Store(true)
			close(waiting)
		}
	}
	opts.Connected = func(ping func(context.Context) error) {
		<-waiting
		ctx, cancel := context.WithTimeoutCause(ctx, 200*time.Millisecond, lost)
		defer cancel()
		stop(ping(ctx))
	}
	if _, err := Open(ctx, dial, g.keys, "x86_64", opts); !errors.Is(err, lost) {
		t.Errorf("%v, want %v", err, lost)
	}
}

func TestShell(t *testing.T) {
	g := newGuest(t)
	s := g.open()
	st := g.stage("exit 1")
	st.Env["COLOUR"] = "blue"
	if _, err := s.Shell(t.Context(), Terminal{In: strings.NewReader(""), Out: io.Discard}); err == nil {
		t.Error("a shell without a stage")
	}
	if err := s.Prepare(t.Context(), st); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	typed := "echo $COLOUR-$PWD-${SECRET-none}\nexit 5\n"
	code, err := s.Shell(t.Context(), Terminal{In: strings.NewReader(typed), Out: &out, Size: Size{80, 24}})
	if err != nil || code != 5 {
		t.Errorf("exit code %d, %v; want 5", code, err)
	}
	if want := "blue-" + st.WorkDir + "-none"; !strings.Contains(out.String(), want) {
		t.Errorf("shell said %q, want %q", out.String(), want)
	}
}

func TestKeys(t *testing.T) {
	a, err := NewKeys(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	files := a.Files()
	if files[0].Name != "ssh_host_ed25519_key" || files[0].Mode != 0o600 || files[1].Name != "authorized_keys" {
		t.Errorf("files = %+v", files)
	}
	host, err := ssh.ParsePrivateKey(files[0].Data)
	if err != nil {
		t.Fatal(err)
	}
	client, _, _, rest, err := ssh.ParseAuthorizedKey(files[1].Data)
	if err != nil || len(rest) != 0 {
		t.Fatal(err, rest)
	}
	if bytes.Equal(host.PublicKey().Marshal(), client.Marshal()) {
		t.Error("one key for both")
	}
	if _, err := NewKeys(strings.NewReader("short")); err == nil {
		t.Error("keys from 5 bytes of randomness")
	}
}

func TestAgent(t *testing.T) {
	if _, _, err := Agent("sparc"); fault.KindOf(err) != fault.Input {
		t.Error(err)
	}
	for _, arch := range []string{"i686", "x86_64"} {
		bin, digest, err := Agent(arch)
		if err != nil {
			wantFault(t, err, fault.Host, "run make") // a checkout before its first make
			continue
		}
		if digest != sha(bin) || !bytes.HasPrefix(bin, []byte("\x7fELF")) {
			t.Errorf("%s: %d bytes, %s", arch, len(bin), digest)
		}
	}
}
