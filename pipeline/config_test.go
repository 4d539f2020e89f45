package pipeline

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/fetch"
	"github.com/belljar/belljar/vm/libvirt"
	"github.com/belljar/belljar/vm/qemu"
)

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadConfig(t *testing.T) {
	path := writeConfig(t, "mirror: [/srv/debian]\nproxy: direct\nbackend: libvirt\nconnect: qemu:///session\npool: big\n")
	got, err := readConfig(path)
	want := configFile{
		Config:  fetch.Config{Path: path, Mirror: []string{"/srv/debian"}, Proxy: "direct"},
		Backend: "libvirt", Connect: "qemu:///session", Pool: "big",
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, path := range []string{"", path + ".not", writeConfig(t, "\n")} {
		if got, err := readConfig(path); err != nil || got.Backend != "" || got.Mirror != nil {
			t.Errorf("%q: %+v, %v", path, got, err)
		}
	}
	for text, says := range map[string]string{
		"mirrors: []\n":            "mirrors",
		"mirror: {a: b}\n":         "mirror",
		"mirror: []\nmirror: []\n": "mirror",
		"backends: qemu\n":         "backends",
		"connect: [a]\n":           "connect",
	} {
		path := writeConfig(t, text)
		_, err := readConfig(path)
		wantFault(t, err, fault.Input, says, path)
	}
}

// Flags come before the environment, that before the file; what the latter two say of libvirt does not matter to
// another backend.
func TestMachines(t *testing.T) {
	env := map[string]string{"BELLJAR_CONNECT": "qemu+tcp://a/system", "LIBVIRT_DEFAULT_URI": "qemu+tcp://b/system", "BELLJAR_POOL": "big"}
	in := map[string]string{"BELLJAR_BACKEND": "libvirt", "LIBVIRT_DEFAULT_URI": "qemu:///session"}
	file := configFile{Backend: "libvirt", Connect: "qemu+ssh://c/system", Pool: "huge"}
	for _, c := range []struct {
		name                   string
		flags                  Config
		env                    map[string]string
		file                   configFile
		backend, connect, pool string
	}{
		{"nothing", Config{}, nil, configFile{}, "", "", ""},
		{"a file", Config{}, nil, file, "libvirt", "qemu+ssh://c/system", "huge"},
		{"variables of a backend that is not asked for", Config{}, env, configFile{Connect: "x", Pool: "y"}, "", "", ""},
		{"variables before the file", Config{}, env, file, "libvirt", "qemu+tcp://a/system", "big"},
		{"libvirt's own variable", Config{}, in, configFile{}, "libvirt", "qemu:///session", ""},
		{"flags first", Config{Backend: "libvirt", Connect: "qemu:///session", Pool: "small"}, env, file, "libvirt", "qemu:///session", "small"},
		{"another backend by flag", Config{Backend: "qemu"}, in, file, "qemu", "", ""},
		{"a flag that this backend does not take", Config{Connect: "qemu:///session"}, nil, configFile{}, "", "qemu:///session", ""},
	} {
		got := c.flags.machines(c.file, func(name string) string { return c.env[name] })
		if got.Backend != c.backend || got.Connect != c.connect || got.Pool != c.pool {
			t.Errorf("%s: %q at %q in %q, want %q at %q in %q", c.name, got.Backend, got.Connect, got.Pool, c.backend, c.connect, c.pool)
		}
	}
}

func TestNewBackend(t *testing.T) {
	for _, name := range []string{"", BackendQEMU} {
		if b, err := newBackend(Config{Backend: name}); err != nil {
			t.Error(err)
		} else if _, ok := b.(*qemu.Backend); !ok {
			t.Errorf("%q is a %T", name, b)
		}
	}
	b, err := newBackend(Config{Backend: BackendLibvirt, Connect: "qemu+tcp://host/system", Pool: "big", Dir: "/dir"})
	if err != nil {
		t.Fatal(err)
	}
	lv, ok := b.(*libvirt.Backend)
	if !ok || lv.URI != "qemu+tcp://host/system" || lv.Pool != "big" || lv.Runs != "/dir/runs" {
		t.Errorf("%T %+v", b, b)
	}
	for _, c := range []struct {
		cfg  Config
		says string
	}{
		{Config{Backend: "xen"}, `no backend "xen": want qemu or libvirt`},
		{Config{Connect: "qemu:///system"}, "--connect is for libvirt"},
		{Config{Backend: BackendQEMU, Pool: "big"}, "--pool is for libvirt"},
		{Config{Backend: BackendLibvirt, Connect: "xen:///system"}, "xen"},
		{Config{Backend: BackendLibvirt, Connect: "qemu+ssh:///system"}, "no host"},
		{Config{Backend: BackendLibvirt, Connect: "::"}, "libvirt URI"},
	} {
		_, err := newBackend(c.cfg)
		wantFault(t, err, fault.Usage, c.says)
		if fault.Chain(err)[0].Remedy == "" {
			t.Errorf("%+v: no remedy", c.cfg)
		}
	}
}
