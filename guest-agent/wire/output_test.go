package wire

import (
	"strings"
	"testing"
)

func TestLeadsOut(t *testing.T) {
	for _, tt := range []struct {
		name, target string
		want         bool
	}{
		{"l", "a", false},
		{"l", "a/b", false},
		{"l", ".", false},
		{"l", "..", true},
		{"l", "/", true},
		{"l", "/usr", true},
		{"d/l", "..", false},
		{"d/l", "../a", false},
		{"d/l", "./../a", false},
		{"d/l", "..//a", false},
		{"d/l", "../..", true},
		{"d/l", "../../t", true}, // to the folder itself, by a name that it need not have where it is laid
		{"d/e/l", "../../x", false},
		{"d/l", "a/..", true}, // a may be a link
		{"d/l", "a/../../..", true},
	} {
		if got := LeadsOut(tt.name, tt.target); got != tt.want {
			t.Errorf("LeadsOut(%q, %q) = %v", tt.name, tt.target, got)
		}
	}
}

func TestCheckOutputs(t *testing.T) {
	for outputs, words := range map[string]string{
		"":              "",
		"a b/c d/":      "",
		"a a":           "",
		"d/ d0 d-1/":    "",
		"../a":          `path "../a"`,
		"/":             "empty path",
		"a//":           `path "a/"`,
		"/a/":           `path "/a"`,
		"d/ d/a":        "d/a is part of d/ already",
		"d/ d/e/":       "d/e/ is part of d/ already",
		"d/e/ d/ d/e/f": "d/e/ is part of d/ already",
	} {
		err := CheckOutputs(strings.Fields(outputs))
		if words == "" && err != nil || words != "" && (err == nil || !strings.Contains(err.Error(), words)) {
			t.Errorf("%q: error %v does not say %q", outputs, err, words)
		}
	}
}
