// Package screen knows the picture of a screen that QEMU and libvirt give (PPM), and makes a PNG of it, which people and
// programs can look at. QEMU writes PNG itself only from 7.1 on, and only if it was built with it.
//
// It refuses to know how the picture was asked for.
package screen

import (
	"bufio"
	"fmt"
	"image"
	"image/png"
	"io"
)

// maxSide bounds what a broken header may ask for, in pixels: VGA's largest mode is far smaller.
const maxSide = 4096

// PNG reads a binary PPM (netpbm, ppm(5): 'P6', width, height, 255, then three bytes a pixel) and writes it as PNG.
func PNG(w io.Writer, ppm io.Reader) error {
	r := bufio.NewReader(ppm)
	var magic string
	var width, height, depth int
	if _, err := fmt.Fscanf(r, "%2s\n%d %d\n%d\n", &magic, &width, &height, &depth); err != nil {
		return fmt.Errorf("picture of a screen: header: %w", err)
	}
	switch {
	case magic != "P6":
		return fmt.Errorf("picture of a screen: begins with %q, want P6", magic)
	case depth != 255:
		return fmt.Errorf("picture of a screen: colours up to %d, want 255", depth)
	case width < 1 || height < 1 || width > maxSide || height > maxSide:
		return fmt.Errorf("picture of a screen: %d by %d pixels, want 1 to %d each", width, height, maxSide)
	}
	img, row := image.NewNRGBA(image.Rect(0, 0, width, height)), make([]byte, 3*width)
	for y := range height {
		if _, err := io.ReadFull(r, row); err != nil {
			return fmt.Errorf("picture of a screen: row %d of %d: %w", y+1, height, err)
		}
		line := img.Pix[y*img.Stride:]
		for x := range width {
			copy(line[4*x:], row[3*x:3*x+3])
			line[4*x+3] = 0xff
		}
	}
	return png.Encode(w, img)
}
