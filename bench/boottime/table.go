package main

import (
	"fmt"
	"io"
	"slices"
)

// print writes the table, the bars, and 'figure NAME VALUE UNIT' lines.
func (m measured) print(w io.Writer) {
	fmt.Fprintf(w, "\n%-52s %8s %8s %8s\n", "seconds", "median", "least", "most")
	row := func(name, text string) {
		if d := m[name]; len(d) > 0 {
			fmt.Fprintf(w, "%-52s %8.2f %8.2f %8.2f\n", text, m.median(name), slices.Min(d).Seconds(), slices.Max(d).Seconds())
		}
	}
	row("fast", "belljar from a saved state, to the agent's answer")
	row("belljar", "belljar from power-on, to the agent's answer")
	for _, p := range marks {
		row("to "+p.name, "  "+p.text)
	}
	row("plain", "plain QEMU, same kernel and initramfs: init's line")
	row("debvm", "debvm-run: its SSH server's first word")
	fmt.Fprintln(w)
	boot, shake := m.median("belljar"), m.median("to ssh")
	bar := func(name string, ratio, limit float64, text string) {
		fmt.Fprintf(w, "%-52s %8.2f   bar %.2f\n", text, ratio, limit)
		fmt.Fprintf(w, "figure %s %.3f x\n", name, ratio)
	}
	fast := m.median("fast")
	fmt.Fprintf(w, "figure boot %.3f s\n", boot)
	fmt.Fprintf(w, "%-52s %8.2f   bar 2.00\nfigure fast-start %.3f s\n", "belljar from a saved state, seconds", fast, fast)
	// The handshake belongs to both or to neither: the second is the harder bar.
	bar("boot-of-plain-and-handshake", boot/(m.median("plain")+shake), 1.25, "belljar, of plain QEMU and the SSH handshake")
	bar("boot-of-plain", (boot-shake)/m.median("plain"), 1.25, "belljar without the SSH handshake, of plain QEMU")
	if len(m["debvm"]) > 0 {
		bar("boot-of-debvm", boot/m.median("debvm"), 0.4, "belljar, of debvm")
	}
}
