package image

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/belljar/belljar/fault"
)

// TestCompare changes one thing of the sample at a time.
func TestCompare(t *testing.T) {
	file := func(text string) *node {
		return &node{mode: typeFile | 0o644, size: int64(len(text)), data: inMemory([]byte(text))}
	}
	replace := func(tr *tree, name string, change func(*node)) {
		n := *tr.get(name)
		change(&n)
		if err := tr.put(name, &n); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name   string
		change func(*tree)
		want   []Difference // A and B of a content are left out
	}{
		{"nothing", func(*tree) {}, nil},
		{"added", func(tr *tree) { tr.put("usr/share/doc/toy/new", file("new")) },
			[]Difference{{Path: "/usr/share/doc/toy/new", What: DiffAdded, B: "file of 3 bytes, mode 0644, owner 0:0"}}},
		{"removed", func(tr *tree) { tr.remove("bin") },
			[]Difference{{Path: "/bin", Package: "toy", What: DiffRemoved, A: "symlink to usr/bin"}}},
		{"type", func(tr *tree) { tr.put("usr/bin/tool", &node{mode: typeLink | 0o777, link: "toy"}) },
			[]Difference{{Path: "/usr/bin/tool", Package: "tool", What: DiffType,
				A: "file of 15000 bytes, mode 0755, owner 100:42", B: "symlink to toy"}}},
		{"mode and owner of a folder", func(tr *tree) {
			replace(tr, "tmp", func(n *node) { n.mode, n.gid = typeDir|0o755, 7 })
		}, []Difference{
			{Path: "/tmp", What: DiffMode, A: "1777", B: "0755"}, {Path: "/tmp", What: DiffOwner, A: "0:0", B: "0:7"},
		}},
		{"target", func(tr *tree) { replace(tr, "etc/loop", func(n *node) { n.link = "x" }) },
			[]Difference{{Path: "/etc/loop", What: DiffTarget, A: "loop2", B: "x"}}},
		{"device", func(tr *tree) { replace(tr, "dev/null", func(n *node) { n.rdev = encodeDev(1, 5) }) },
			[]Difference{{Path: "/dev/null", What: DiffDevice, A: "1:3", B: "1:5"}}},
		{"a hard link became a copy", func(tr *tree) { replace(tr, "usr/bin/toy-again", func(*node) {}) },
			[]Difference{
				{Path: "/usr/bin/toy", Package: "toy", What: DiffLinks, A: "/usr/bin/toy-again"},
				{Path: "/usr/bin/toy-again", Package: "toy", What: DiffLinks, A: "/usr/bin/toy"},
			}},
		{"capability lost", func(tr *tree) { replace(tr, "usr/bin/tool", func(n *node) { n.xattrs = nil }) },
			[]Difference{{Path: "/usr/bin/tool", Package: "tool", What: DiffXattrs, A: "security.capability=cap_net_raw=ep"}}},
		{"content of a text", func(tr *tree) {
			tr.put("usr/lib/os-release", file("PRETTY_NAME=\"Toy OS 1\"\nID=boy\n# comment\nVERSION='1'\n"))
		},
			[]Difference{{Path: "/usr/lib/os-release", What: DiffContent, Detail: `line 2: "ID=toy", "ID=boy"`}}},
		{"longer", func(tr *tree) { tr.put("etc/group", file("root:x:0:\nshadow:x:42:\nmore\n")) },
			[]Difference{{Path: "/etc/group", What: DiffContent, Detail: `line 3: "", "more"`}}},
		{"content of no text", func(tr *tree) {
			tr.put("usr/bin/tool", &node{mode: typeFile | 0o755, uid: 100, gid: 42, size: 15000,
				data:   inMemory([]byte(strings.Repeat("tool ", 2000) + "\x00" + strings.Repeat("tool ", 1000)[1:])),
				xattrs: map[string]string{"security.capability": capNetRaw}})
		}, []Difference{{Path: "/usr/bin/tool", Package: "tool", What: DiffContent, Detail: "from byte 10000 on"}}},
		{"a hard link's content is told once", func(tr *tree) {
			n := *tr.get("usr/bin/toy")
			n.data = inMemory([]byte("#!/bin/sh\necho boy\n"))
			tr.put("usr/bin/toy", &n)
			tr.put("usr/bin/toy-again", &n)
		}, []Difference{{Path: "/usr/bin/toy", Package: "toy", What: DiffContent, Detail: `line 2: "echo toy", "echo boy"`}}},
		{"packages", func(tr *tree) {
			tr.put("var/lib/dpkg/status", file("Package: toy\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1.0-2\n\n"+
				"Package: new\nStatus: install ok installed\nArchitecture: all\nVersion: 9\n"))
		}, []Difference{
			{Package: "new:all", What: DiffAdded, B: "9"},
			{Package: "tool:all", What: DiffRemoved, A: "2:3.4-5"},
			{Package: "toy:amd64", What: DiffVersion, A: "1.0-1", B: "1.0-2"},
			{Package: "toy:amd64", What: DiffState, A: "install ok installed", B: "deinstall ok config-files"},
			{Path: "/var/lib/dpkg/status", What: DiffContent, Detail: `line 2: "Status: install ok installed", "Status: deinstall ok config-files"`},
		}},
		{"dates do not count", func(tr *tree) { replace(tr, "tmp", func(n *node) { n.mtime++ }) }, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			tr := sampleTree(t)
			test.change(tr)
			a, b := openBytes(t, "a", erofsOf(t, sampleTree(t))), openBytes(t, "b", tarOf(t, tr))
			d, err := Compare(context.Background(), a, b, DiffOptions{})
			if err != nil {
				t.Fatal(err)
			}
			got := append(d.Packages, d.Files...)
			for i, f := range got {
				if f.What == DiffContent {
					if !strings.HasPrefix(f.A, "sha256 ") || f.A == f.B {
						t.Errorf("digests %q and %q", f.A, f.B)
					}
					got[i].A, got[i].B = "", ""
				}
			}
			if diff := cmp.Diff(test.want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(Difference{})); diff != "" {
				t.Error(diff)
			}
			if d.Same != (len(test.want) == 0) {
				t.Errorf("same: %v", d.Same)
			}
		})
	}
	t.Run("dates", func(t *testing.T) {
		tr := sampleTree(t)
		replace(tr, "tmp", func(n *node) { n.mtime++ })
		d, err := Compare(context.Background(), openBytes(t, "a", erofsOf(t, tr)), openBytes(t, "b", erofsOf(t, sampleTree(t))),
			DiffOptions{MTime: true})
		want := []Difference{{Path: "/tmp", What: DiffMTime, A: "2026-01-02T03:04:06Z", B: "2026-01-02T03:04:05Z"}}
		if err != nil || cmp.Diff(want, d.Files, cmpopts.IgnoreUnexported(Difference{})) != "" {
			t.Error(err, cmp.Diff(want, d.Files, cmpopts.IgnoreUnexported(Difference{})))
		}
	})
}

// TestCompareBytes compares contents longer than the buffers, that differ at their very ends.
func TestCompareBytes(t *testing.T) {
	long := strings.Repeat("0123456789abcde\n", 40000)
	trees := func(text string) *Image {
		tr := newTree()
		tr.put("long", &node{mode: typeFile | 0o644, size: int64(len(text)), data: inMemory([]byte(text))})
		return openBytes(t, "x", tarOf(t, tr))
	}
	for _, test := range []struct{ name, text, want string }{
		{"last byte", long[:len(long)-2] + "X\n", `line 40000: "0123456789abcde", "0123456789abcdX"`},
		{"one more", long + "x", `line 40001: "", "x"`},
		{"no text", long[:len(long)-1] + "\x00", "from byte 639999 on"},
	} {
		d, err := Compare(context.Background(), trees(long), trees(test.text), DiffOptions{})
		if err != nil || len(d.Files) != 1 || d.Files[0].Detail != test.want {
			t.Errorf("%s: %v, %+v", test.name, err, d)
		}
	}
}

func TestAllowList(t *testing.T) {
	tr := sampleTree(t)
	tr.remove("etc/loop")
	tr.remove("dev/null")
	tr.put("etc/group", &node{mode: typeFile | 0o600})
	a, b := openBytes(t, "a", erofsOf(t, sampleTree(t))), openBytes(t, "b", erofsOf(t, tr))
	const complete = `allow:
  # the first that fits has it
  - path: /etc/*
    differs: [removed]
    reason: a loop is of no use
  - {path: /dev/**, differs: [removed, content], reason: udev's}
  - path: /etc/group
    differs: [mode, content]
    reason: |
      secret
      indeed
`
	for _, test := range []struct {
		name, list      string
		same            bool
		explained, left int
		unused          []AllowEntry
	}{
		{"all but a content that is the same", complete, false, 4, 0,
			[]AllowEntry{{Line: 6, Path: "/dev/**", Differs: []string{DiffContent}, Reason: "udev's"}}},
		{"all", strings.Replace(complete, "removed, content", "removed", 1), true, 4, 0, nil},
		{"not all", "allow:\n- {path: /etc/**, differs: [removed], reason: x}\n", false, 1, 3, nil},
		{"lines that differ", strings.Replace(complete, "[mode, content]", "[mode, content]\n    lines: '^(root:x:0:|shadow:.*)$'", 1),
			false, 4, 0, []AllowEntry{{Line: 6, Path: "/dev/**", Differs: []string{DiffContent}, Reason: "udev's"}}},
		{"lines and another", "allow:\n- {path: /etc/group, differs: [content], lines: '^shadow:', reason: x}\n", false, 0, 4,
			[]AllowEntry{{Line: 2, Path: "/etc/group", Differs: []string{DiffContent}, Lines: "^shadow:", Reason: "x"}}},
		{"none", "allow:\n- {package: toy:*, differs: [version], reason: x}\n", false, 0, 4,
			[]AllowEntry{{Line: 2, Package: "toy:*", Differs: []string{DiffVersion}, Reason: "x"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			list, err := ParseAllowList("allow.yaml", []byte(test.list))
			if err != nil {
				t.Fatal(err)
			}
			d, err := Compare(context.Background(), a, b, DiffOptions{Allow: list})
			if err != nil {
				t.Fatal(err)
			}
			left := 0
			for _, f := range d.Files {
				if f.Allowed == "" {
					left++
				}
			}
			if d.Same != test.same || d.Explained != test.explained || left != test.left {
				t.Errorf("same %v, %d explained, %d left: %+v", d.Same, d.Explained, left, d)
			}
			if diff := cmp.Diff(test.unused, d.Unused, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(AllowEntry{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAllowListRefuses(t *testing.T) {
	for _, test := range []struct{ name, list, want string }{
		{"empty", "", "expected one document"},
		{"lines of no content", "allow:\n- {path: /x, differs: [mode], lines: x, reason: x}\n", "'lines' goes with a content"},
		{"bad lines", "allow:\n- {path: /x, differs: [content], lines: '(', reason: x}\n", "a.yaml:2: lines: error parsing regexp"},
		{"not a list", "allow: yes\n", "a.yaml:1: 'allow' must be a list"},
		{"no entry", "allow: []\n", "empty or missing"},
		{"other top field", "alow:\n- {path: /x, differs: [mode], reason: x}\n", `a.yaml:1: unknown field "alow": did you mean "allow"?`},
		{"unknown field", "allow:\n- path: /x\n  difers: [mode]\n  reason: x\n", `a.yaml:3: unknown field "difers": did you mean "differs"?`},
		{"unknown word", "allow:\n- {path: /x, differs: [mod], reason: x}\n", `a.yaml:2: differs: "mod" is none of`},
		{"word of packages", "allow:\n- {path: /x, differs: [version], reason: x}\n", `a.yaml:2: differs: "version" is none of`},
		{"no reason", "allow:\n- {path: /x, differs: [mode]}\n", "a.yaml:2: an entry needs a reason"},
		{"no differs", "allow:\n- {path: /x, reason: x}\n", "a.yaml:2: an entry says in 'differs'"},
		{"differs is text", "allow:\n- path: /x\n  differs: mode\n  reason: x\n", "a.yaml:3: 'differs' must be a list"},
		{"both", "allow:\n- {path: /x, package: x, differs: [added], reason: x}\n", "a.yaml:2: an entry has either"},
		{"relative", "allow:\n- {path: x, differs: [added], reason: x}\n", "a path begins with /"},
		{"bad pattern", "allow:\n- {path: '/[', differs: [added], reason: x}\n", "syntax error in pattern"},
		{"number", "allow:\n- {path: /x, differs: [added], reason: 7}\n", "a.yaml:2: 'reason' must be text"},
		{"not fields", "allow:\n- x\n", "a.yaml:2: expected fields"},
		{"syntax", "allow:\n- {path: [\n", "a.yaml:"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := ParseAllowList("a.yaml", []byte(test.list))
			if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
