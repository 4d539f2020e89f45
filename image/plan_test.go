package image

import (
	"strings"
	"testing"
)

func TestIdlePreinst(t *testing.T) {
	const helper = "# Automatically added by dh_installdeb/13.11.4\n"
	for _, test := range []struct {
		name, script string
		idle         bool
	}{
		{"dh_installdeb", "#!/bin/sh\nset -e\n" + helper +
			"dpkg-maintscript-helper rm_conffile /etc/ssh/moduli 1:7.9p1-8\\~ -- \"$@\"\n# End automatically added section\n", true},
		{"links to folders", "#!/bin/sh -e\n\n" +
			"dpkg-maintscript-helper symlink_to_dir /usr/share/doc/a b 5.30.0-1 a -- \"$@\"\nexit 0\n", true},
		{"dh_installinit", "#!/bin/sh\nset -e\nif [ \"$1\" = \"install\" ] && [ -n \"$2\" ] && [ -e \"/etc/init.d/ssh\" ] ; then\n" +
			"\tchmod +x \"/etc/init.d/ssh\" >/dev/null || true\nfi\n", true},
		{"work after it", "#!/bin/sh\ndpkg-maintscript-helper rm_conffile /a 1 -- \"$@\"\n: >/var/lib/x\n", false},
		{"work behind it", "#!/bin/sh\ndpkg-maintscript-helper rm_conffile /a 1 -- \"$@\"; rm /x\n", false},
		{"work inside it", "#!/bin/sh\ndpkg-maintscript-helper rm_conffile $(touch /x) 1 -- \"$@\"\n", false},
		{"another condition", "#!/bin/sh\nif [ \"$1\" = \"install\" ] ; then\n\ttouch /x\nfi\n", false},
		{"not closed", "#!/bin/sh\nif [ \"$1\" = \"install\" ] && [ -n \"$2\" ] && [ -e \"/x\" ] ; then\ntrue\nelse\nrm /y\nfi\n", false},
		{"another language", "#!/usr/bin/perl\n", false},
		{"a program", "\x7fELF", false},
		{"empty", "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := idlePreinst([]byte(test.script)); got != test.idle {
				t.Errorf("idle: %v", got)
			}
		})
	}
}

func TestPlan(t *testing.T) {
	script := func(text string) map[string]string { return map[string]string{"postinst": "#!/bin/sh\n" + text} }
	before := map[string]string{"preinst": "#!/bin/sh\ntouch /x\n", "templates": "Template: a\n"}
	out, err := base(t, passwd(t),
		deb(t, "python3.11-minimal", "", map[string]string{
			"postinst": "#!/bin/sh\n/usr/bin/python3.11 -E -S /usr/lib/python3.11/py_compile.py $files\n",
			"preinst":  "#!/bin/sh\ntouch /y\n",
		}),
		deb(t, "python3-app", "Depends: thing | other\n", script("py3compile -p app\n")),
		deb(t, "on-app", "Depends: app (>= 1)\n", nil),
		deb(t, "on-virtual", "Pre-Depends: none, virtual-app\n", nil),
		deb(t, "provider", "Provides: virtual-app (= 1)\nDepends: python3-app\n", nil),
		deb(t, "app", "Depends: python3-app\n", nil),
		deb(t, "zlib", "", before), deb(t, "alone", "Pre-Depends: zlib\n", before),
		deb(t, "same", "Multi-Arch: same\n", map[string]string{"preinst": "#!/bin/sh\nset -e\n"}),
		deb(t, "libc6", "", before))
	if err != nil {
		t.Fatal(err)
	}
	tr := mustTree(t, root(out))
	for name, want := range map[string]string{
		"library":                     "python3.11-minimal:amd64\n",
		"first":                       "base-passwd:amd64 libc6:amd64\n",
		"early":                       "alone:amd64 same:amd64 zlib:amd64\n",
		"preinst":                     "zlib:amd64\nalone:amd64\nlibc6:amd64\n",
		"tmp.ci/zlib:amd64/templates": "Template: a\n",
		"tmp.ci/alone:amd64/control":  "Package: alone\nVersion: 1.0\nArchitecture: amd64\nPre-Depends: zlib\nDescription: test\n",
		"tmp.ci/same:amd64/preinst":   "",
		"tmp.ci/python3.11-minimal:amd64/preinst": "#!/bin/sh\ntouch /y\n",
	} {
		got := ""
		if n := tr.get(planDir + name); n != nil {
			data, err := n.read(1 << 20)
			if err != nil {
				t.Fatal(err)
			}
			got = string(data)
		}
		if got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if n := tr.get(planDir + "tmp.ci/zlib:amd64/preinst"); n == nil || n.mode&0o111 == 0 {
		t.Error("a preinst cannot be run")
	}
}

// Two packages with one path: the one whose preinst diverts waits with its file.
func TestDiverter(t *testing.T) {
	diverts := map[string]string{"preinst": "#!/bin/sh\ndpkg-divert --add --package b --rename --divert /x.a /usr/x\n"}
	for _, test := range []struct{ name, one, other string }{{"comes later", "a", "b"}, {"comes first", "c", "b"}} {
		t.Run(test.name, func(t *testing.T) {
			out, err := base(t, passwd(t), deb(t, test.other, "", diverts, e("./usr/x=diverter")),
				deb(t, test.one, "", nil, e("./usr/x=plain")))
			if err != nil {
				t.Fatal(err)
			}
			tr := mustTree(t, root(out))
			for name, want := range map[string]string{
				"usr/x": `-rw-r--r-- 0:0 "plain"`, planDir + "aside/b:amd64/usr/x": `-rw-r--r-- 0:0 "diverter"`,
				planDir + "divert/b:amd64":                `-rw-r--r-- 0:0 "/usr/x\n"`,
				planDir + "list/b:amd64/b.list":           `-rw-r--r-- 0:0 "/usr/x\n"`,
				"var/lib/dpkg/info/b.list":                `-rw-r--r-- 0:0 ""`,
				"var/lib/dpkg/info/" + test.one + ".list": `-rw-r--r-- 0:0 "/usr/x\n"`,
			} {
				if got := show(t, tr, name); got != want {
					t.Errorf("%s\n got %s\nwant %s", name, got, want)
				}
			}
		})
	}
}

func TestConfigureScriptHasItsHelpers(t *testing.T) {
	for _, name := range []string{"original", "perl-client.sh", "perl-server.pl", "python-client.sh", "python-worker.sh"} {
		if !strings.Contains(ConfigureScript, "cat >/belljar/configure/"+name+" <<'END OF FILE'\n") {
			t.Errorf("%s is not laid in place", name)
		}
	}
	if strings.Count(ConfigureScript, "\nEND OF FILE\n") != 5 {
		t.Error("a helper ends before its end")
	}
}
