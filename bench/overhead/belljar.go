package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

const qemu = "qemu-system-x86_64"

// bench is what all rounds use.
type bench struct {
	options
	dir    string
	spec   string
	silent string // the program, built so that nothing is recorded
	boot   struct{ Kernel, Initrd, Cmdline string }
	root   string // path of the root disk
	tar    string // of the sources

	counting string // the plugin that counts instructions; empty: they are not counted
}

// spec has two stages: one that hands out the sources, and the one that is measured. It takes the packages of the shipped
// SeaBIOS, whose image most stores have.
const specText = `name: overhead
guests: [GUEST]
sources:
  - {name: seabios, debian: seabios, version: 1.16.2-1}
stages:
  - name: sources
    script: tar -C "$SOURCES" -cf "$OUT/sources.tar" seabios
    outputs: [sources.tar]
  - name: build
    packages: [acpica-tools, gcc, libc6-dev, make, python3]
    script: |
SCRIPT
    outputs: [done]
artifacts:
  - {name: sources.tar, stage: sources, path: sources.tar}
  - {name: done, stage: build, path: done}
smoke: []
`

func prepare(ctx context.Context, o options, dir string) (*bench, error) {
	b := &bench{options: o, dir: dir, spec: filepath.Join(dir, "overhead.yaml"), silent: filepath.Join(dir, "silent")}
	indented := "      " + strings.ReplaceAll(strings.TrimSuffix(script(o.execs), "\n"), "\n", "\n      ")
	text := strings.NewReplacer("GUEST", o.guest, "SCRIPT", indented).Replace(specText)
	if err := os.WriteFile(b.spec, []byte(text), 0o644); err != nil {
		return nil, err
	}
	if err := b.lock(ctx); err != nil {
		return nil, err
	}
	if err := b.buildSilent(ctx); err != nil {
		return nil, err
	}
	path, err := exec.LookPath(qemu)
	if err != nil {
		return nil, err
	}
	// A program's own libraries lie beside it, and those a confined QEMU may load.
	bin, lib := filepath.Join(dir, "bin"), filepath.Join(dir, "lib")
	if err := errors.Join(os.Mkdir(bin, 0o755), os.Mkdir(lib, 0o755)); err != nil {
		return nil, err
	}
	if o.count {
		if b.counting, err = b.plugin(ctx, lib); err != nil {
			return nil, err
		}
	}
	named := fmt.Sprintf("#!/bin/sh\nexec %s -name %s %s \"$@\"\n", path, b.mark(), strings.Join(b.pluginArgs(), " "))
	if err := os.WriteFile(filepath.Join(bin, qemu), []byte(named), 0o755); err != nil {
		return nil, err
	}
	var image struct{ Path string }
	if err := b.result(ctx, &image, "image", "build", b.spec); err != nil {
		return nil, err
	}
	if err := b.result(ctx, &b.boot, "image", "boot", b.spec, "--accel", "tcg", "--cold"); err != nil {
		return nil, err
	}
	var built struct{ Artifacts []struct{ Name, Path string } }
	if err := b.result(ctx, &built, "build", b.spec, "--accel", "tcg", "--out", filepath.Join(dir, "out")); err != nil {
		return nil, err
	}
	b.root, b.tar = image.Path, built.Artifacts[0].Path
	return b, nil
}

func (b *bench) pluginArgs() []string {
	if b.counting == "" {
		return nil
	}
	return []string{"-plugin", "file=" + b.counting}
}

// lock takes over the shipped SeaBIOS's lock, for which no archive has to be asked.
func (b *bench) lock(ctx context.Context) error {
	data, err := os.ReadFile("specs/shipped/roms/seabios.lock.json")
	if err != nil {
		return fmt.Errorf("run this in the folder of the sources: %w", err)
	}
	if err := os.WriteFile(filepath.Join(b.dir, "overhead.lock.json"), data, 0o644); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, b.belljar, "lock", b.spec).CombinedOutput()
	if err != nil {
		return fmt.Errorf("lock: %w\n%s", err, out)
	}
	return nil
}

// buildSilent builds a belljar with the same agents that asks for no record of programs.
func (b *bench) buildSilent(ctx context.Context) error {
	const file = "pipeline/programs.go"
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	changed := strings.Replace(string(data), "const recordPrograms = true", "const recordPrograms = false", 1)
	if changed == string(data) {
		return fmt.Errorf("%s: it has no constant recordPrograms any more", file)
	}
	source, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	replaced := filepath.Join(b.dir, "programs.go")
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{source: replaced}})
	if err != nil {
		return err
	}
	list := filepath.Join(b.dir, "overlay.json")
	for name, data := range map[string][]byte{replaced: []byte(changed), list: overlay} {
		if err := os.WriteFile(name, data, 0o644); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-overlay", list, "-o", b.silent, "./cmd/belljar")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}

// result runs a command with --json and reads its last line.
func (b *bench) result(ctx context.Context, to any, args ...string) error {
	cmd := exec.CommandContext(ctx, b.belljar, append([]string{"--json"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	last := lines[len(lines)-1]
	if err != nil {
		return fmt.Errorf("belljar %s: %w: %s", args[0], err, last)
	}
	return json.Unmarshal([]byte(last), &struct{ Result any }{to})
}

// build runs the spec by a belljar, on that processor of the host's, and watches its log. Each guest begins at power-on, as
// the console's does.
func (b *bench) build(ctx context.Context, belljar, cpu string) (sample, error) {
	cmd := exec.CommandContext(ctx, belljar, "--json", "build", b.spec, "--accel", "tcg", "--cold", "--no-cache",
		"--out", filepath.Join(b.dir, "out"))
	pin(cmd, cpu)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(b.dir, "bin")+":"+os.Getenv("PATH"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	w := newWatch(b.named)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	var last string
	for lines.Scan() {
		var e struct{ Kind, Text string }
		last = lines.Text()
		if json.Unmarshal(lines.Bytes(), &e) == nil {
			w.line(e.Text)
		}
	}
	if err := cmd.Wait(); err != nil || !w.over {
		return nil, fmt.Errorf("%w: %s", err, last)
	}
	return w.all, nil
}

// mark is the name of this bench's machines.
func (b *bench) mark() string { return filepath.Base(b.dir) }

// named is what the one QEMU that has the mark has used so far.
func (b *bench) named() used {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range all {
		cmdline, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(cmdline), "\x00-name\x00"+b.mark()+"\x00") && strings.Contains(string(cmdline), "\x00-append\x00") {
			if u := now(filepath.Dir(path)); u.cpu > 0 {
				return u
			}
		}
	}
	return used{}
}

// processorTime is what a process has used (proc_pid_stat(5): utime and stime, in ticks of 1/100 s).
func processorTime(proc string) (user, sys float64) {
	stat, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return 0, 0
	}
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	user, _ = strconv.ParseFloat(f[11], 64)
	sys, _ = strconv.ParseFloat(f[12], 64)
	return user / 100, sys / 100
}
