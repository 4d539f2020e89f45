package specs

import (
	"fmt"
	"slices"
	"strings"
)

// suggest ends a message about an unknown name: the nearest of those that exist, else all of them.
func suggest(name string, known []string) string {
	if best := nearest(name, known); best != "" {
		return fmt.Sprintf(": did you mean %q?", best)
	}
	if len(known) == 0 {
		return ""
	}
	known = slices.Clone(known)
	slices.Sort(known)
	return ": known are " + strings.Join(known, ", ")
}

// nearest is the known name that was most likely meant; "" if none is near.
func nearest(name string, known []string) string {
	best, distance := "", len(name)/2+2 // beyond that two names have nothing to do with each other
	for _, k := range known {
		n := editDistance(strings.ToLower(name), strings.ToLower(k))
		if len(name) > 2 && strings.HasPrefix(k, name) { // cut short
			n = min(n, 1)
		}
		if n < distance {
			best, distance = k, n
		}
	}
	return best
}

// editDistance is Damerau's (optimal string alignment): how many letters to insert, delete, change or swap.
// Only the first 64 letters count, so that a hostile name costs nothing.
func editDistance(a, b string) int {
	a, b = a[:min(len(a), 64)], b[:min(len(b), 64)]
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
