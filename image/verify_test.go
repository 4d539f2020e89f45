package image

import (
	"context"
	"crypto/md5" //nolint:gosec // dpkg's
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/belljar/belljar/fault"
)

func md5Of(text string) string {
	sum := md5.Sum([]byte(text)) //nolint:gosec // dpkg's
	return hex.EncodeToString(sum[:])
}

// verified is a root with two packages: tool ships a file, a conffile and a link; other has diverted tool's usr/bin/x.
func verified(t *testing.T, change map[string]string) *tree {
	t.Helper()
	texts := map[string]string{
		"usr/bin/tool": "run", "usr/bin/x": "other's", "usr/bin/x.tool": "tool's", "etc/tool.conf": "x=1\n",
		dpkgDir + "diversions":           "/usr/bin/x\n/usr/bin/x.tool\nother\n",
		dpkgDir + "info/tool.list":       "/.\n/bin\n/bin/tool\n/etc\n/etc/tool.conf\n/usr/bin/x\n/usr/share/gone\n",
		dpkgDir + "info/tool.md5sums":    md5Of("run") + "  bin/tool\n" + md5Of("tool's") + "  usr/bin/x\n",
		dpkgDir + "info/other:a.list":    "/usr/bin/x\n",
		dpkgDir + "info/other:a.md5sums": md5Of("other's") + "  usr/bin/x\n",
		"usr/share/gone":                 "",
		dpkgDir + "status": "Package: tool\nStatus: install ok installed\nArchitecture: a\nVersion: 1\nConffiles:\n" +
			" /etc/tool.conf " + md5Of("x=1\n") + "\n /etc/old.conf " + md5Of("") + " obsolete\n" +
			" /etc/gone.conf newconffile remove-on-upgrade\n\n" +
			"Package: other\nStatus: install ok installed\nArchitecture: a\nMulti-Arch: same\nVersion: 1\n\n" +
			"Package: removed\nStatus: deinstall ok config-files\nArchitecture: a\nVersion: 1\n\n",
	}
	for name, text := range change {
		texts[name] = text
	}
	tr := newTree()
	if err := tr.put("bin", &node{mode: typeLink | 0o777, link: "usr/bin"}); err != nil {
		t.Fatal(err)
	}
	if err := tr.mkdirMode("etc", 0o755, testClock); err != nil {
		t.Fatal(err)
	}
	for name, text := range texts {
		if text == "absent" {
			continue
		}
		if err := tr.text(name, 0o644, testClock, text); err != nil {
			t.Fatal(err)
		}
	}
	return tr
}

func TestVerify(t *testing.T) {
	for _, test := range []struct {
		name   string
		change map[string]string
		want   string
	}{
		{"as it should be", nil, "[]"},
		{"a file changed", map[string]string{"usr/bin/tool": "ran"}, "[/bin/tool of tool is changed]"},
		{"a file missing", map[string]string{"usr/bin/tool": "absent"}, "[/bin/tool of tool is missing]"},
		{"one without a sum missing", map[string]string{"usr/share/gone": "absent"}, "[/usr/share/gone of tool is missing]"},
		{"a conffile changed", map[string]string{"etc/tool.conf": ""}, "[/etc/tool.conf of tool is changed]"},
		{"a conffile missing", map[string]string{"etc/tool.conf": "absent"}, "[/etc/tool.conf of tool is missing]"},
		{"the diverted changed", map[string]string{"usr/bin/x.tool": "other's"}, "[/usr/bin/x of tool is changed]"},
		{"the diverter's changed", map[string]string{"usr/bin/x": "tool's"}, "[/usr/bin/x of other is changed]"},
		{"no diversion", map[string]string{dpkgDir + "diversions": ""}, "[/usr/bin/x of tool is changed]"},
		{"not configured", map[string]string{
			dpkgDir + "status": "Package: tool\nStatus: install ok unpacked\nArchitecture: a\nVersion: 1\n",
		}, "[tool is 'install ok unpacked', want 'install ok installed']"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := &Image{Name: "test", tree: verified(t, test.change)}
			got, err := m.Verify(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(got) != test.want {
				t.Errorf("got %v, want %s", got, test.want)
			}
		})
	}
	for name, change := range map[string]map[string]string{
		"status":     {dpkgDir + "status": "absent"},
		"diversions": {dpkgDir + "diversions": "/usr/bin/x\n"},
	} {
		m := &Image{Name: "test", tree: verified(t, change)}
		_, err := m.Verify(context.Background())
		if fault.KindOf(err) != fault.Input || !strings.Contains(err.Error(), name) {
			t.Errorf("%s broken: %v", name, err)
		}
	}
}
