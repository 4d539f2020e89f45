package fetch

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/store"
	"github.com/google/go-cmp/cmp"
)

// run runs git for a test, with nothing of the user's configuration.
func run(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(gitEnv(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@mirror.example", "GIT_AUTHOR_DATE=2024-01-02T03:04:05Z",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@mirror.example", "GIT_COMMITTER_DATE=2024-01-02T03:04:05Z")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// gitRepository makes one with two commits; .gitattributes tries to change what an archive of the first holds.
func gitRepository(t *testing.T) (dir, commit string) {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed: git sources cannot be tested")
	}
	dir = t.TempDir()
	run(t, dir, "init", "--quiet", "--initial-branch=main")
	for name, text := range map[string]string{
		"a.txt": "one\ntwo\n", "subst": "$Format:%h %d$\n", "hidden": "not exported\n", "ident": "$Id$\n", "src/run.sh": "#!/bin/sh\n",
		".gitattributes": "subst export-subst\nhidden export-ignore\nident ident\na.txt text eol=crlf\n",
	} {
		os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	os.Chmod(filepath.Join(dir, "src/run.sh"), 0o755)
	run(t, dir, "add", "-A")
	run(t, dir, "commit", "--quiet", "-m", "first")
	commit = run(t, dir, "rev-parse", "HEAD")
	run(t, dir, "commit", "--quiet", "--allow-empty", "-m", "second")
	run(t, dir, "tag", "-a", "-m", "v1", "v1", commit)
	return dir, commit
}

func TestFetchGit(t *testing.T) {
	dir, commit := gitRepository(t)
	t.Setenv("GIT_DIR", "/nonexistent") // what a git hook would set must not lead astray
	t.Setenv("HOME", t.TempDir())
	os.WriteFile(os.Getenv("HOME")+"/.gitconfig", []byte("[tar]\n\tumask = 0\n[core]\n\tautocrlf = true\n"), 0o644)
	var digests []store.Digest
	f := newFetcher(t)
	for range 2 {
		d, n, err := f.FetchGit(t.Context(), "file://"+dir, commit)
		if err != nil || n == 0 {
			t.Fatal(n, err)
		}
		digests = append(digests, d)
	}
	run(t, dir, "gc", "--quiet")
	d, _, err := newFetcher(t).FetchGit(t.Context(), dir, commit)
	if digests = append(digests, d); err != nil || digests[0] != digests[1] || digests[0] != d {
		t.Errorf("digests differ: %v, %v", digests, err)
	}
	b, err := f.Store.ReadAll(digests[0])
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		text, _ := io.ReadAll(r)
		got[h.Name] = string(text)
		if mode := map[bool]int64{true: 0o755, false: 0o644}[strings.HasSuffix(h.Name, ".sh")]; h.Mode != mode || h.ModTime.Unix() != 1704164645 || h.Uid != 0 {
			t.Errorf("%s: mode %o, time %v, uid %d", h.Name, h.Mode, h.ModTime, h.Uid)
		}
	}
	want := map[string]string{
		"a.txt": "one\ntwo\n", "subst": "$Format:%h %d$\n", "hidden": "not exported\n", "ident": "$Id$\n", "src/run.sh": "#!/bin/sh\n",
		".gitattributes": "subst export-subst\nhidden export-ignore\nident ident\na.txt text eol=crlf\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the tar is not the tree (-want +got):\n%s", diff)
	}
	if left, _ := os.ReadDir(filepath.Join(f.Store.Dir(), "tmp")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}

	it := Item{Name: "src", Git: "file://" + dir, Commit: commit, Digest: digests[0]}
	if err := newFetcher(t).Fetch(t.Context(), []Item{it}, nil); err != nil {
		t.Error(err)
	}
	it.Digest = digestOf([]byte("another"))
	err = newFetcher(t).Fetch(t.Context(), []Item{it}, nil)
	wantFault(t, err, fault.Input, string(it.Digest), string(digests[0]), commit)
	if _, ok := errors.AsType[*store.Mismatch](err); !ok {
		t.Errorf("no *store.Mismatch in %v", err)
	}
}

func TestFetchGitRefuses(t *testing.T) {
	dir, commit := gitRepository(t)
	tag := run(t, dir, "rev-parse", "v1")
	for _, c := range []struct {
		name, url, commit string
		kind              fault.Kind
		says              string
	}{
		{"a branch", dir, "main", fault.Input, "all 40"},
		{"a short commit", dir, commit[:12], fault.Input, "all 40"},
		{"an option as URL", "--upload-pack=/bin/true", commit, fault.Input, "begin with '-'"},
		{"a program as URL", "ext::sh -c true", commit, fault.Host, "git"},
		{"an unknown commit", dir, strings.Repeat("0", 39) + "1", fault.Input, "no commit"},
		{"a tag's own object", dir, tag, fault.Input, "no commit"},
		{"no repository", dir + "-not", commit, fault.Host, "git"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFetcher(t)
			_, _, err := f.FetchGit(t.Context(), c.url, c.commit)
			e := fault.Chain(err)
			if fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v %v, want %v with %q", fault.KindOf(err), err, c.kind, c.says)
			}
			if c.kind == fault.Host && (len(e[0].Evidence) == 0 || e[0].Remedy == "") {
				t.Errorf("no evidence or remedy: %+v", e[0])
			}
			nothingStored(t, f)
		})
	}
}
