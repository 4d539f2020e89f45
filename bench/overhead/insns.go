package main

import (
	"context"
	_ "embed"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed plugin/insns.c
var pluginSource []byte

// plugin is the file that counts a guest's instructions, built by the host's compiler.
func (b *bench) plugin(ctx context.Context, to string) (string, error) {
	source, plugin := filepath.Join(to, "insns.c"), filepath.Join(to, "insns.so")
	if err := os.WriteFile(source, pluginSource, 0o644); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "gcc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden", "-o", plugin, source)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the counting plugin (Debian: gcc, libc6-dev): %w\n%s", err, out)
	}
	return plugin, os.Chmod(plugin, 0o755)
}

// instructions is how many the processors of a QEMU have run, 0 if nobody counts.
func instructions(proc string) float64 {
	const cell = 64 // as in plugin/insns.c
	data, _ := os.ReadFile(filepath.Join(proc, "cwd", "insns"))
	var n uint64
	for ; len(data) >= cell; data = data[cell:] {
		n += binary.NativeEndian.Uint64(data)
	}
	return float64(n)
}
