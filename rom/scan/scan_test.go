package scan

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"slices"
	"testing"
	"testing/iotest"
)

func TestAll(t *testing.T) {
	word := regexp.MustCompile(`a(b+)c`)
	for _, c := range []struct {
		name string
		at   []int // where 'abbc' is put
		want []int64
	}{
		{"nothing", nil, nil},
		{"at the start", []int{0}, []int64{0}},
		{"two in a window", []int{5, 100}, []int64{5, 100}},
		{"side by side", []int{5, 9}, []int64{5, 9}},
		{"across the end of a window", []int{window - 2}, []int64{window - 2}},
		{"the last place of a window", []int{window - 1}, []int64{window - 1}},
		{"the first place of the next", []int{window}, []int64{window}},
		{"across, and at once behind it", []int{window - 2, window + 2}, []int64{window - 2, window + 2}},
		{"at the end", []int{3*window - 4}, []int64{3*window - 4}},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := make([]byte, 3*window)
			for _, at := range c.at {
				copy(data[at:], "abbc")
			}
			var got []int64
			for h, err := range All(bytes.NewReader(data), word, 4) {
				if err != nil || string(h.Text) != "abbc" || string(h.Groups[0]) != "bb" {
					t.Fatalf("%+v, %v", h, err)
				}
				got = append(got, h.Offset)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestBroken(t *testing.T) {
	broken := io.MultiReader(bytes.NewReader(make([]byte, 10)), iotest.ErrReader(io.ErrClosedPipe))
	for h, err := range All(broken, regexp.MustCompile(`x`), 1) {
		if !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("got %+v, %v", h, err)
		}
	}
	broken = iotest.ErrReader(io.ErrClosedPipe)
	if _, ok, err := First(broken, regexp.MustCompile(`x`), 1); ok || !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %t, %v", ok, err)
	}
}
