package specs

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The two toolchains for musl are one text for two targets: what is mended in one is mended in the other.
func TestToolchainsForMusl(t *testing.T) {
	text := func(name string) string {
		data, err := shipped.ReadFile("shipped/toolchains/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	want := strings.NewReplacer(
		"i686-linux-musl", "x86_64-linux-musl",
		"x86_64-linux-musl", "i686-linux-musl",
		"MUSL_ARCH: i386", "MUSL_ARCH: x86_64",
		"--with-arch=i686", "--with-arch=x86-64",
	).Replace(text("i686-linux-musl"))
	if diff := cmp.Diff(want, text("x86_64-linux-musl")); diff != "" {
		t.Errorf("toolchains/x86_64-linux-musl is not toolchains/i686-linux-musl for another target (-want +got):\n%s", diff)
	}
}
