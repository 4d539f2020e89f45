package screen

import (
	"bytes"
	"image/color"
	"image/png"
	"strings"
	"testing"
)

func TestPNG(t *testing.T) {
	var out bytes.Buffer
	if err := PNG(&out, strings.NewReader("P6\n2 1\n255\n\xff\x00\x80\x01\x02\x03")); err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(&out)
	if err != nil {
		t.Fatal(err)
	}
	if size := img.Bounds().Size(); size.X != 2 || size.Y != 1 {
		t.Fatalf("%v pixels, want 2 by 1", size)
	}
	for x, want := range []color.NRGBA{{0xff, 0, 0x80, 0xff}, {1, 2, 3, 0xff}} {
		if got := color.NRGBAModel.Convert(img.At(x, 0)); got != want {
			t.Errorf("pixel %d is %v, want %v", x, got, want)
		}
	}
}

func TestPNGRefuses(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"nothing":       {"", "header"},
		"another magic": {"P5\n2 1\n255\nxx", `begins with "P5"`},
		"16 bits":       {"P6\n2 1\n65535\nxx", "up to 65535"},
		"no pixels":     {"P6\n0 1\n255\n", "0 by 1"},
		"far too large": {"P6\n100000 100000\n255\n", "100000 by 100000"},
		"negative":      {"P6\n-2 1\n255\nxx", "-2 by 1"},
		"cut off":       {"P6\n2 2\n255\n123456789", "row 2 of 2"},
	} {
		t.Run(name, func(t *testing.T) {
			err := PNG(&bytes.Buffer{}, strings.NewReader(c.in))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// FuzzPNG: whatever QEMU writes, the outcome is an error or a picture of the size that the header names.
func FuzzPNG(f *testing.F) {
	f.Add([]byte("P6\n2 1\n255\n\xff\x00\x80\x01\x02\x03"))
	f.Add([]byte("P6\n1 2\n255\n123"))
	f.Add([]byte("P6 1 1 255 abc"))
	f.Add([]byte("P6\n# comment\n1 1\n255\nabc"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		if PNG(&out, bytes.NewReader(in)) != nil {
			return
		}
		img, err := png.Decode(&out)
		if err != nil {
			t.Fatal(err)
		}
		if size := img.Bounds().Size(); 3*size.X*size.Y > len(in) {
			t.Errorf("%v pixels from %d bytes", size, len(in))
		}
	})
}
