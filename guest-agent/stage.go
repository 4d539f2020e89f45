package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/belljar/belljar/guest-agent/wire"
)

// stager puts stages in place and runs them, one after the other.
type stager struct {
	jar    *jar
	mounts []string // of the last stage, in the order in which they were made
}

// prepare makes everything ready for a stage. What the stage before left stays until then, so that a person can look
// at it: its sources, its processes' files in /tmp.
func (s *stager) prepare(st *wire.Stage, step func(string, ...any)) error {
	if err := s.checkStage(st); err != nil {
		return err
	}
	if err := s.clear(); err != nil {
		return fmt.Errorf("clear after the last stage: %w", err)
	}
	if st.Tmpfs {
		if err := s.mountTmpfs(st.Root); err != nil {
			return err
		}
	}
	dirs := []string{st.WorkDir, st.OutDir}
	for _, name := range []string{"HOME", "SOURCES", "OUT"} {
		// Root stages configure an image and must not leave folders of the build in it.
		if dir := st.Env[name]; !st.Root && strings.HasPrefix(dir, s.jar.build+"/") {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		if err := s.makeDir(dir, st.Root); err != nil {
			return err
		}
	}
	for i, m := range st.Sources {
		step("laying source %s in place", m.To)
		if err := s.layPrivate(i, m, st.Root); err != nil {
			return fmt.Errorf("source %s: %w", m.To, err)
		}
	}
	return nil
}

func (s *stager) checkStage(st *wire.Stage) error {
	if st.Name == "" || st.WorkDir == "" {
		return errors.New("a stage needs a name and a folder to work in")
	}
	for _, dir := range []string{st.WorkDir, st.OutDir} {
		if dir != "" && (!filepath.IsAbs(dir) || filepath.Clean(dir) != dir) {
			return fmt.Errorf("stage %s: folder %q is not plain and absolute", st.Name, dir)
		}
	}
	if len(st.Outputs) > 0 && (st.OutDir == "" || st.Device == "") {
		return fmt.Errorf("stage %s: outputs need a folder and a disk", st.Name)
	}
	if err := wire.CheckOutputs(st.Outputs); err != nil {
		return fmt.Errorf("stage %s: outputs: %w", st.Name, err)
	}
	for _, m := range st.Sources {
		if !filepath.IsAbs(m.To) || filepath.Clean(m.To) != m.To {
			return fmt.Errorf("stage %s: source's place %q is not plain and absolute", st.Name, m.To)
		}
	}
	for k := range st.Env {
		if k == "" || strings.ContainsAny(k, "=\x00") || strings.Contains(st.Env[k], "\x00") {
			return fmt.Errorf("stage %s: environment variable %q cannot be set", st.Name, k)
		}
	}
	return nil
}

// clear takes away the sources of the last stage and everything in the temporary folders.
func (s *stager) clear() error {
	for len(s.mounts) > 0 {
		last := len(s.mounts) - 1
		if err := unmount(s.mounts[last]); err != nil {
			return err
		}
		s.mounts = s.mounts[:last]
	}
	if err := os.RemoveAll(s.uppers()); err != nil {
		return err
	}
	for _, dir := range s.jar.tmp {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// uppers is where what stages write to their sources lies: on the build's own disk.
func (s *stager) uppers() string { return s.jar.build + "/.belljar/sources" }

// makeDir makes dir, with the folders above it as far as they are missing, the stage's own.
func (s *stager) makeDir(dir string, root bool) error {
	st, err := os.Lstat(dir)
	switch {
	case err == nil && !st.IsDir():
		return fmt.Errorf("%s is not a folder", dir)
	case errors.Is(err, fs.ErrNotExist):
		if err := s.makeDir(filepath.Dir(dir), root); err != nil {
			return err
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	case err != nil:
		return err
	case dir != s.jar.build && !strings.HasPrefix(dir, s.jar.build+"/"):
		return nil // not ours to give away
	}
	if root || s.jar.user == nil {
		return nil
	}
	return os.Lchown(dir, int(s.jar.user.Uid), int(s.jar.user.Gid))
}

// run prepares a stage, runs its script and writes its outputs. The error is of the guest; the script's is in the
// Result.
func (s *stager) run(ctx context.Context, st *wire.Stage, step func(string, ...any), written func(int64),
	log func(stream string, data []byte) error) (*wire.Result, error) {
	if err := s.prepare(st, step); err != nil {
		return nil, err
	}
	script, err := s.writeScript(st)
	if err != nil {
		return nil, fmt.Errorf("write script: %w", err)
	}
	step("running %s", st.Name)
	p := process{
		args: []string{"/bin/sh", "-eu", script}, env: environ(st.Env), dir: st.WorkDir,
		timeout: st.Timeout, silence: st.Silence, expend: s.jar.guarded, scratch: &gauge{dir: st.WorkDir},
	}
	if !st.Root {
		p.user, p.confined = s.jar.user, true
	}
	res, err := s.recorded(st, &p, func() (*wire.Result, error) { return p.run(ctx, newLogger(log, step)) })
	if err != nil {
		return nil, fmt.Errorf("run script: %w", err)
	}
	if res.Signal != "" || res.ExitCode != 0 {
		res.ScratchFull = p.scratch.full()
	}
	if res.Reason != "" || res.Signal != "" || res.ExitCode != 0 || len(st.Outputs) == 0 {
		return res, nil
	}
	step("writing outputs of %s", st.Name)
	res.Stream, err = writeOutputs(ctx, s.jar, st, written)
	if bad, ok := errors.AsType[*outputError](err); ok {
		res.Reason = bad.Error()
		return res, nil
	}
	if err != nil {
		return nil, fmt.Errorf("write outputs: %w", err)
	}
	return res, nil
}

// writeScript puts the script where the stage's user can read and not change it. The shell names the file in its
// complaints; a pipe or a -c argument would leave it without a name, or be too long.
func (s *stager) writeScript(st *wire.Stage) (string, error) {
	dir := s.jar.build + "/.belljar"
	if st.Root {
		dir = s.jar.state + "/stages" // a root stage may have no build disk
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", r) {
			return r
		}
		return '-'
	}, st.Name)
	path := filepath.Join(dir, name+".sh")
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return path, os.WriteFile(path, []byte(st.Script), 0o644)
}

// environ is exactly env, in one order.
func environ(env map[string]string) []string {
	all := make([]string, 0, len(env))
	for k, v := range env {
		all = append(all, k+"="+v)
	}
	sort.Strings(all)
	return all
}
