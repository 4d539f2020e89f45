package specs

import (
	"slices"
	"strings"
	"testing"
)

func TestFindShipped(t *testing.T) {
	for name, want := range map[string]string{
		"seabios": "roms/seabios", "roms/seabios": "roms/seabios", "bios": "", "roms": "", "": "", "shipped/roms/seabios": "",
		"guests/debian-bookworm-i686": "", "debian-bookworm-i686": "",
	} {
		if got, ok := FindShipped(name); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v, want %q", name, got, ok, want)
		}
	}
}

func TestMeant(t *testing.T) {
	all := []string{"a/musl", "b/gcc", "b/musl", "tiny"}
	for _, tc := range []struct {
		name string
		want []string
		said string // where it is not one
	}{
		{"b/musl", []string{"b/musl"}, ""},
		{"gcc", []string{"b/gcc"}, ""},
		{"tiny", []string{"tiny"}, ""},
		{"musl", []string{"a/musl", "b/musl"}, `"musl" is the end of more than one shipped spec's name; kind: input fault; remedy: give the whole name: a/musl or b/musl`},
		{"mulss", nil, `there is no shipped spec "mulss": did you mean "musl"?; kind: input fault; remedy: shipped specs: a/musl, b/gcc, b/musl, tiny; for a file`},
		{"b/gc", nil, `there is no shipped spec "b/gc": did you mean "b/gcc"?`},
		{"nothing-like-it", nil, `known are a/musl, b/gcc, b/musl, tiny`},
	} {
		if got := meant(tc.name, all); !slices.Equal(got, tc.want) {
			t.Errorf("%s means %v, want %v", tc.name, got, tc.want)
		}
		if tc.said == "" {
			continue
		}
		if said := strings.ReplaceAll(report(notOne(tc.name, all)), "\n", "; "); !strings.Contains(said, tc.said) {
			t.Errorf("%s: %s", tc.name, said)
		}
	}
}

// TestIsPath: a path says so itself; whatever stands on the disk, a name is never one.
func TestIsPath(t *testing.T) {
	for name, want := range map[string]bool{
		"roms/seabios": false, "seabios": false, "board/rom.yml": false, ".hidden": false, "..x": false,
		"./rom": true, "../rom": true, "/rom": true, "rom.yaml": true, "board/rom.yaml": true,
	} {
		if got := isPath(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}
