package integration

import (
	"os"
	"path/filepath"
	"testing"
)

// The guest of trixie: locked against the suite, its updates and its security archive, made, booted, and found to be a
// whole Debian that runs what is built in it.
func TestSlowTrixie(t *testing.T) {
	needMachines(t)
	if os.Getenv("BELLJAR_SLOW") != "1" {
		t.Skip("locks and makes an image of trixie; asked for by BELLJAR_SLOW=1")
	}
	b := onClone(t)
	spec := filepath.Join(b.cwd, "trixie.yaml")
	must(t, os.WriteFile(spec, []byte(`name: trixie
guests: [debian-trixie-x86_64]
sources: []
stages:
  - name: hello
    packages: [gcc, libc6-dev]
    script: |
      printf '#include <stdio.h>\nint main(void) { puts("built in it"); return 0; }\n' >hello.c
      gcc hello.c -o hello
      ./hello >"$OUT/hello.txt"
      . /etc/os-release
      echo "$VERSION_CODENAME" >>"$OUT/hello.txt"
      dpkg-query -W -f '${db:Status-Abbrev}\n' | sort -u >>"$OUT/hello.txt"
      dpkg --audit >>"$OUT/hello.txt"
      dpkg --verify >>"$OUT/hello.txt"
    outputs: [hello.txt]
artifacts:
  - {name: hello.txt, stage: hello, path: hello.txt}
smoke: []
`), 0o644))
	b.succeed("lock", spec)
	var r built
	b.succeed("build", spec, "--json").result(t, &r)
	data, err := os.ReadFile(r.Artifacts[0].Path)
	must(t, err)
	if want := "built in it\ntrixie\nii \n"; string(data) != want {
		t.Errorf("the guest says %q, want %q", data, want)
	}
}
