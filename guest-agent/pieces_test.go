package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/guest-agent/wire"
)

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestProbeReads(t *testing.T) {
	dir := t.TempDir()
	route := write(t, dir+"/route", "Iface\tDestination\tGateway\n"+"eth0\t00000000\t0202000A\n"+"lo\t0000007F\t00000000\n")
	route6 := write(t, dir+"/ipv6_route",
		"00000000000000000000000000000001 80 0 00 0 00000000 00000001 00000000 80200001       lo\n"+
			"fe800000000000000000000000000000 40 0 00 0 00000100 00000001 00000000 00000001     eth0\n")
	mounts := write(t, dir+"/mounts", "root / overlay rw 0 0\nhost /mnt 9p rw 0 0\nsrv:/x /n nfs4 rw 0 0\nproc /proc proc rw 0 0\n")
	cpu := write(t, dir+"/cpuinfo", "processor\t: 0\nmodel name\t: QEMU Virtual CPU version 2.5+\n\nprocessor\t: 1\n")
	write(t, dir+"/net/bonding_masters", "")
	for _, n := range []string{"lo", "eth0"} {
		if err := os.Mkdir(dir+"/net/"+n, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct{ got, want any }{
		"routes":           {routes4(route), []string{"eth0 00000000 0202000A"}},
		"no routes":        {routes4(dir + "/none"), []string{}},
		"routes IPv6":      {len(routes6(route6)), 1},
		"no IPv6":          {routes6(dir + "/none"), []string{}},
		"mounts":           {sharedMounts(mounts), []string{"host /mnt 9p", "srv:/x /n nfs4"}},
		"interfaces":       {interfaces(dir + "/net"), []string{"eth0", "lo"}},
		"no interfaces":    {interfaces(dir + "/none"), []string{}},
		"CPU":              {cpuModel(cpu), "QEMU Virtual CPU version 2.5+"},
		"CPU without name": {cpuModel(dir + "/none"), ""},
	} {
		if !reflect.DeepEqual(tt.got, tt.want) {
			t.Errorf("%s = %q, want %q", name, tt.got, tt.want)
		}
	}
}

func TestLeaks(t *testing.T) {
	sealed := wire.Seal{Interfaces: []string{"lo"}, NameLookup: "no such host"}
	if got := leaks(sealed, "example.com"); len(got) != 0 {
		t.Errorf("a sealed guest leaks: %q", got)
	}
	for want, change := range map[string]func(*wire.Seal){
		"interface beside lo: eth0": func(s *wire.Seal) { s.Interfaces = append(s.Interfaces, "eth0") },
		"route that leaves lo: eth": func(s *wire.Seal) { s.Routes = []string{"eth0 0"} },
		"mounted: host /mnt 9p":     func(s *wire.Seal) { s.Mounts = []string{"host /mnt 9p"} },
		"example.com was looked up": func(s *wire.Seal) { s.NameLookup = "" },
		"nothing is proven":         func(s *wire.Seal) { s.Interfaces = nil },
	} {
		s := sealed
		change(&s)
		if got := leaks(s, "example.com"); len(got) != 1 || !strings.Contains(got[0], want) || !strings.HasSuffix(got[0], ".") {
			t.Errorf("leaks = %q, want a sentence with %q", got, want)
		}
	}
}

func TestFindDisk(t *testing.T) {
	sys := t.TempDir()
	write(t, sys+"/vda/serial", "root")
	write(t, sys+"/vdb/serial", "outputs\n")
	write(t, sys+"/loop0/size", "0")
	if dev, err := findDisk(sys, "outputs"); dev != "vdb" || err != nil {
		t.Error(dev, err)
	}
	if _, err := findDisk(sys, "scratch"); err == nil || !strings.Contains(err.Error(), "root, outputs") {
		t.Error("what disks there are is not said:", err)
	}
}

// Every length around the two limits comes out as head, note and tail.
func TestLoggerKeepsHeadAndTail(t *testing.T) {
	for _, size := range []int{0, 1, headSize - 1, headSize, headSize + 1, headSize + tailSize, headSize + tailSize + 1, 3 * headSize} {
		for _, piece := range []int{wire.LogChunk, wire.LogChunk - 7} {
			t.Run(fmt.Sprintf("%d in pieces of %d", size, piece), func(t *testing.T) {
				all := make([]byte, size)
				for i := range all {
					all[i] = byte(i / 7)
				}
				var out, notes bytes.Buffer
				l := newLogger(func(stream string, data []byte) error {
					if stream == wire.Agent {
						notes.Write(data)
					} else {
						out.Write(data)
					}
					return nil
				}, func(string, ...any) {})
				for p := all; len(p) > 0; {
					n := min(piece, len(p))
					l.write(p[:n])
					p = p[n:]
				}
				l.finish()
				want, cut := all, size-headSize-tailSize
				if cut > 0 {
					want = append(append([]byte(nil), all[:headSize]...), all[size-tailSize:]...)
				}
				if !bytes.Equal(out.Bytes(), want) {
					t.Error("other bytes")
				}
				if said := strings.Contains(notes.String(), fmt.Sprintf("[%d bytes", cut)); said != (cut > 0) {
					t.Errorf("note = %q for %d bytes left out", notes.String(), cut)
				}
			})
		}
	}
}

// Where no overlay can be had, a copy does the same.
func TestCopyTree(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/from/sub/file", "text")
	old := time.Unix(1e9, 0)
	for _, err := range []error{
		os.Symlink("sub/file", dir+"/from/link"), os.Chmod(dir+"/from/sub/file", 0o751), os.Mkdir(dir+"/to", 0o755),
		os.Chtimes(dir+"/from/sub/file", old, old), os.Chtimes(dir+"/from/sub", old, old), copyTree(dir+"/from", dir+"/to"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"sub", "sub/file"} {
		from, err1 := os.Lstat(dir + "/from/" + name)
		to, err2 := os.Lstat(dir + "/to/" + name)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if from.Mode() != to.Mode() || !from.ModTime().Equal(to.ModTime()) {
			t.Errorf("%s: %v %v became %v %v", name, from.Mode(), from.ModTime(), to.Mode(), to.ModTime())
		}
	}
	if b, err := os.ReadFile(dir + "/to/link"); string(b) != "text" {
		t.Error(b, err)
	}
}

// The agent empties /tmp and turns machines off: outside of a guest it must not start.
func TestNotOutsideOfAGuest(t *testing.T) {
	t.Setenv(testJar, "")
	if j, err := thisJar(); err == nil || !strings.Contains(err.Error(), "Belljar guest only") {
		t.Errorf("jar %+v, error %v", j, err)
	}
}

func TestScriptNames(t *testing.T) {
	j, dir := testDir(t)
	s := &stager{jar: j}
	for name, want := range map[string]string{"rom": "rom.sh", "../../etc/x y": "..-..-etc-x-y.sh"} {
		got, err := s.writeScript(&wire.Stage{Name: name, Script: "true"})
		if err != nil || got != dir+"/build/.belljar/"+want {
			t.Errorf("%q is written to %q: %v", name, got, err)
		}
	}
}

func TestStageOfAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	j, dir := testDir(t)
	j.user = guestUser()
	// The user must get to the folder, which the test's parents keep from others.
	for p := dir; p != "/tmp" && p != "/"; p = filepath.Dir(p) {
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, dir+"/inputs/src/file", "mine")
	s := &stager{jar: j}
	t.Cleanup(func() { s.clear() })
	var log bytes.Buffer
	res, err := s.run(context.Background(), &wire.Stage{
		Name: "rom", Script: "id -u; id -G; echo more >>src/file; touch src/new; cat src/file; ls -ld . | cut -d' ' -f3",
		WorkDir: dir + "/build", Sources: []wire.Mount{{From: "src", To: dir + "/build/src"}},
		Env: map[string]string{"PATH": "/usr/bin:/bin"},
	}, func(string, ...any) {}, func(int64) {}, func(_ string, data []byte) error { log.Write(data); return nil })
	if err != nil || res.ExitCode != 0 {
		t.Fatalf("%v, %+v, log %s", err, res, log.String())
	}
	if want := "1000\n1000\nminemore\n"; !strings.HasPrefix(log.String(), want) {
		t.Errorf("log = %q", log.String())
	}
	if b, _ := os.ReadFile(dir + "/inputs/src/file"); string(b) != "mine" {
		t.Errorf("the input disk was changed: %q", b)
	}
}

// stageLog runs a script as a stage in a jar and returns its log.
func stageLog(t *testing.T, j *jar, dir, script string, change func(*wire.Stage)) (*wire.Result, string) {
	t.Helper()
	setUp(t, unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)) // as serve does: a daemon is the agent's child
	s := &stager{jar: j}
	t.Cleanup(func() { s.clear() })
	st := &wire.Stage{Name: "rom", Script: script, WorkDir: dir + "/build/work", Env: map[string]string{"PATH": "/usr/bin:/bin"}}
	if change != nil {
		change(st)
	}
	var log bytes.Buffer
	res, err := s.run(t.Context(), st, func(string, ...any) {}, func(int64) {}, func(_ string, data []byte) error { log.Write(data); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return res, log.String()
}

func TestDaemonIsNamedInTheLog(t *testing.T) {
	j, dir := testDir(t)
	res, log := stageLog(t, j, dir, `sleep 1000 & until [ "$(cat /proc/$!/comm)" = sleep ]; do :; done; printf started`, nil) // before, it is sh
	if res.ExitCode != 0 || res.Reason != "" {
		t.Errorf("result = %+v", res)
	}
	lines := strings.Split(log, "\n")
	if len(lines) != 3 || lines[0] != "started" || !strings.HasPrefix(lines[1], "[the script ended and left processes running, which were ended: sleep (") {
		t.Errorf("log = %q", log)
	}
}

func TestUsage(t *testing.T) {
	j, dir := testDir(t)
	res, _ := stageLog(t, j, dir, "sh -c 'i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done'; sleep 0.1; head -c 3000000 /dev/zero >file", nil)
	if u := res.Usage; u.User < 10*time.Millisecond || u.System < 0 || u.Wall < 100*time.Millisecond || u.MaxRSS < 100<<10 {
		t.Errorf("usage = %+v", u)
	}
	if n := ioWritten(write(t, dir+"/io", "rchar: 7\nwrite_bytes: 3002368\ncancelled_write_bytes: 1\n")); n != 3002368 {
		t.Errorf("write_bytes = %d", n)
	}
	if n := ioWritten(dir + "/none"); n != 0 {
		t.Errorf("a kernel that does not count counted %d", n)
	}
}

func TestMemory(t *testing.T) {
	file := t.TempDir() + "/meminfo"
	held := func(anon, shmem int) {
		write(t, file, fmt.Sprintf("MemTotal: 2000 kB\nCached: 900 kB\nAnonPages:   %d kB\nShmem:  %d kB\nShmemHugePages: 77 kB\n", anon, shmem))
	}
	held(100, 20)
	m := watchMemory(file)
	for _, now := range [][2]int{{90, 20}, {400, 30}, {110, 20}} {
		held(now[0], now[1])
		m.look()
	}
	if m.most != 310<<10 {
		t.Errorf("at most %d bytes, want 310 KiB", m.most)
	}
	if m := watchMemory(file + "-none"); m.before != 0 {
		t.Errorf("without the file %d bytes are held", m.before)
	}
}

// A script that fails on a full disk is told from one that fails beside one.
func TestScratchFull(t *testing.T) {
	j, dir := testDir(t)
	if err := unix.Mount("small", j.build, "tmpfs", 0, "size=4m"); err != nil {
		t.Skip("only root of a whole machine can mount:", err)
	}
	t.Cleanup(func() { unix.Unmount(j.build, unix.MNT_DETACH) })
	for script, want := range map[string]int64{
		"exit 3":                         0,
		"head -c 8000000 /dev/zero >big": 4 << 20,
		"head -c 8000000 /dev/zero >big || { sleep 0.5; rm big; exit 1; }":         4 << 20, // tidied up: it was full all the same
		"head -c 8000000 /dev/zero >big || { sleep 0.5; rm big; echo recovered; }": 0,
	} {
		res, log := stageLog(t, j, dir, script, func(st *wire.Stage) { st.Silence = 2 * time.Second })
		if res.ScratchFull != want {
			t.Errorf("%s: %d, want %d (exit %d): %s", script, res.ScratchFull, want, res.ExitCode, log)
		}
		os.RemoveAll(dir + "/build/work")
	}
}

func TestScratchInMemory(t *testing.T) {
	j, dir := testDir(t)
	if err := unix.Mount("try", j.build, "tmpfs", 0, ""); err != nil {
		t.Skip("only root of a whole machine can mount:", err)
	}
	unix.Unmount(j.build, 0)
	res, log := stageLog(t, j, dir, "stat -f -c %T .; echo >left", func(st *wire.Stage) { st.Tmpfs = true })
	if res.ExitCode != 0 || log != "tmpfs\n" {
		t.Errorf("%+v: %s", res, log)
	}
	if _, err := os.Stat(dir + "/build/work"); err != nil {
		t.Error("what a stage left can be looked at until the next:", err)
	}
	s := &stager{jar: j, mounts: []string{j.build}}
	if err := s.clear(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir + "/build/work"); err == nil {
		t.Error("the next stage finds what the last one left in memory")
	}
}

// The stage's user can neither end the agent nor take its privileges.
func TestStageCannotKillTheAgent(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	j, dir := testDir(t)
	j.user = guestUser()
	for p := dir; p != "/tmp" && p != "/"; p = filepath.Dir(p) {
		setUp(t, os.Chmod(p, 0o755))
	}
	res, log := stageLog(t, j, dir, "kill -9 $PPID || echo refused", nil)
	if res.ExitCode != 0 || !strings.Contains(log, "refused") {
		t.Errorf("%+v: %s", res, log)
	}
}

func TestParentOf(t *testing.T) {
	if got := parentOf(os.Getpid()); got != os.Getppid() {
		t.Errorf("parent is %d, want %d", got, os.Getppid())
	}
	if got := parentOf(1 << 30); got != 0 {
		t.Errorf("nobody has the parent %d", got)
	}
}
