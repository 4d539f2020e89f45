package main

import (
	"fmt"
	"io"
	"slices"
)

// printTable writes, for each part, the median of each variant and of its ratios to the same round's console, then
// 'figure NAME VALUE UNIT' lines. Where instructions were counted, the times are of a guest that was slowed down by that.
func printTable(w io.Writer, all map[string][]sample, count bool) {
	var figures string
	if count {
		for _, p := range parts {
			fmt.Fprintf(w, "\n%s\n%-12s %22s %12s\n", p.what, "", "million instructions", "of console")
			for _, name := range []string{"console", "agent", "recorded"} {
				n, ratio := medians(all, name, p.name, func(u used) float64 { return u.insns })
				fmt.Fprintf(w, "%-12s %22.0f %12.3f\n", name, n/1e6, ratio)
				if name != "console" {
					figures += fmt.Sprintf("figure overhead-instructions-%s-%s %.3f x\n", p.name, name, ratio)
				}
			}
		}
		fmt.Fprintf(w, "\nbar 1.030\n%s", figures)
		return
	}
	for _, p := range parts {
		fmt.Fprintf(w, "\n%s\n%-12s %12s %12s %16s %12s\n", p.what, "", "QEMU's cpu", "of console", "wall", "of console")
		for _, name := range []string{"console", "agent", "recorded"} {
			cpu, cpuRatio := medians(all, name, p.name, func(u used) float64 { return u.cpu })
			wall, wallRatio := medians(all, name, p.name, func(u used) float64 { return u.wall })
			fmt.Fprintf(w, "%-12s %10.2f s %12.3f %14.2f s %12.3f\n", name, cpu, cpuRatio, wall, wallRatio)
			if name != "console" {
				figures += fmt.Sprintf("figure overhead-%s-%s %.3f x\n", p.name, name, cpuRatio)
			}
		}
	}
	fmt.Fprintf(w, "\nbar 1.030\n%s", figures)
}

func medians(all map[string][]sample, name, part string, of func(used) float64) (value, ratio float64) {
	var values, ratios []float64
	for i, s := range all[name] {
		values = append(values, of(s[part]))
		ratios = append(ratios, of(s[part])/of(all["console"][i][part]))
	}
	return median(values), median(ratios)
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
