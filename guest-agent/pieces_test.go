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
	}, func(string, ...any) {}, func(_ string, data []byte) error { log.Write(data); return nil })
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
