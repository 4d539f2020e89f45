package integration

import (
	"os"
	"testing"
	"time"
)

// SIGKILL at thirty instants, spread over a build with the image at hand and over the making of an image. After each
// the build is completed; what it hands over never differs.
func TestSlowSIGKILL(t *testing.T) {
	needMachines(t)
	if os.Getenv("BELLJAR_SLOW") == "" {
		t.Skip("takes minutes; BELLJAR_SLOW=1 runs it")
	}
	someImage(t)
	t.Run("build", func(t *testing.T) {
		k := newKilling(t, "bundles", "images", "kernels")
		spec := k.spec("killed", tinySpec("killed"))
		build := []string{"build", spec, "--json", "--no-cache"}
		all, at := k.measure(build...)
		t.Logf("a build takes %s", at[len(at)-1].Round(time.Millisecond))
		instants := spread(18, 0, at)
		for _, phase := range []string{"boot", "stage", "smoke"} { // where one thing has ended and another begins
			instants = append(instants, firstOf(t, all, "start", phase), firstOf(t, all, "end", phase))
		}
		for _, in := range instants {
			k.killAt(in, build...)
			k.swept()
			k.complete(spec, "killed")
		}
		k.nothingOutside()
	})
	t.Run("image", func(t *testing.T) {
		k := newKilling(t, "bundles", "kernels")
		spec := k.spec("killed", tinySpec("killed"))
		image := []string{"image", "build", spec, "--json"}
		other := newKilling(t, "bundles", "kernels")
		all, at := other.measureOnce("image", "build", other.spec("killed", tinySpec("killed")), "--json")
		t.Logf("an image takes %s", at[len(at)-1].Round(time.Millisecond))
		instants := append(spread(4, at[firstOf(t, all, "start", "unpack").after], at),
			firstOf(t, all, "end", "configure"), instant{firstOf(t, all, "start", "image").after, 200 * time.Millisecond}) // merging takes less than a second
		for _, in := range instants {
			k.killAt(in, image...)
			k.swept()
		}
		k.complete(spec, "killed")
		k.nothingOutside()
	})
}
