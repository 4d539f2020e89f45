package fetch

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/store"
)

// gitAttributes goes into info/attributes, which wins over every .gitattributes in the tree: the tar holds the blobs
// as they were committed, all of them, and nothing that depends on the clone (see gitattributes(5), export-subst).
const gitAttributes = "* -text !eol -ident !filter !working-tree-encoding -export-subst -export-ignore\n"

// FetchGit brings the tree of one commit into the store as a tar. The same commit gives the same tar on every host:
// paths in git's order, mtimes the commit's, owner root, umask 022. Submodules are empty folders in it.
// It uses the host's git; the repository's objects are checked by git as they arrive.
func (f *Fetcher) FetchGit(ctx context.Context, url, commit string) (store.Digest, int64, error) {
	op := "fetch git " + redact(url)
	if (len(commit) != 40 && len(commit) != 64) || strings.Trim(commit, "0123456789abcdef") != "" {
		return "", 0, fault.New(fault.Input, op, "commit %q: expected all 40 (or 64) lower-case hexadecimal digits",
			commit)
	}
	if strings.HasPrefix(url, "-") {
		return "", 0, fault.New(fault.Input, op, "a URL cannot begin with '-'")
	}
	if _, err := exec.LookPath("git"); err != nil {
		return "", 0, fault.New(fault.Host, op, "%w", err).
			WithRemedy("Install git (Debian, Ubuntu: apt-get install git).")
	}
	dir, remove, err := f.Store.TempDir("git-*")
	if err != nil {
		return "", 0, err
	}
	defer remove()
	r := gitRepo{dir: dir, op: op, proxy: f.Mirrors.Proxy}
	if err := r.fetch(ctx, url, commit); err != nil {
		return "", 0, err
	}
	t, err := f.Store.TempFile("git-*.tar")
	if err != nil {
		return "", 0, err
	}
	defer t.Discard()
	if _, err := r.git(ctx, true, "archive", "--format=tar", "--output="+t.Name(), commit); err != nil {
		return "", 0, err
	}
	return t.Commit(ctx)
}

func (f *Fetcher) fetchGitItem(ctx context.Context, it Item) error {
	d, n, err := f.FetchGit(ctx, it.Git, it.Commit)
	if err != nil {
		return err
	}
	if d != it.Digest {
		return fault.New(fault.Input, "fetch "+it.Name, "%s at %s: %w", redact(it.Git), it.Commit,
			&store.Mismatch{Want: it.Digest, Got: d, WantSize: it.Size, GotSize: n}).
			WithRemedy("The lock's digest is not that of this commit's tree: lock anew (belljar lock).")
	}
	return nil
}

// gitRepo is a bare repository that lives as long as one fetch.
type gitRepo struct{ dir, op, proxy string }

func (r gitRepo) fetch(ctx context.Context, url, commit string) error {
	format := "sha1"
	if len(commit) == 64 {
		format = "sha256"
	}
	init := []string{"init", "--quiet", "--bare", "--template=", "--object-format=" + format, "."}
	if _, err := r.git(ctx, true, init...); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(r.dir, "info"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(r.dir, "info", "attributes"), []byte(gitAttributes), 0o644); err != nil {
		return err
	}
	fetch := []string{"-c", "fetch.fsckObjects=true", "fetch", "--quiet", "--no-tags",
		"--no-recurse-submodules", "--no-auto-maintenance"}
	_, err := r.git(ctx, false, append(fetch, "--depth=1", "--", url, commit)...)
	if err != nil && ctx.Err() == nil { // a server that serves only what a branch or tag names: take all of them
		if _, all := r.git(ctx, false, append(fetch, "--", url, "+refs/*:refs/*")...); all != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	got, err := r.git(ctx, true, "rev-parse", "--verify", "--quiet", commit+"^{commit}")
	if err != nil || strings.TrimSpace(got) != commit {
		return fault.New(fault.Input, r.op, "there is no commit %s there", commit).
			WithRemedy("Name a commit (not a tag's own object) that a branch or tag of that repository reaches.")
	}
	return nil
}

// git runs git in the repository. sealed leaves the user's configuration out, so that it cannot change the result;
// the network needs it (proxies, credentials).
func (r gitRepo) git(ctx context.Context, sealed bool, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{
		"-c", "core.abbrev=40", "-c", "tar.umask=0022", "-c", "gc.auto=0", "-c", "core.autocrlf=false",
	}, args...)...)
	cmd.Dir = r.dir
	cmd.Env = append(gitEnv(), "LC_ALL=C", "GIT_DIR="+r.dir, "GIT_TERMINAL_PROMPT=0",
		"GIT_ALLOW_PROTOCOL=file:git:http:https:ssh")
	cmd.Env = append(cmd.Env, gitProxy(r.proxy)...)
	if sealed {
		cmd.Env = append(cmd.Env, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_ATTR_NOSYSTEM=1")
	}
	// git starts helpers (git-remote-https, ssh): all of them end together.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			return "", fault.New(fault.Host, r.op, "run git: %w", err)
		}
		return "", fault.New(fault.Host, r.op, "git: %w", err).
			WithRemedy("Check the URL and the network; git's own words follow.").
			WithEvidence("git's error output", errs.String())
	}
	return out.String(), nil
}

// gitEnv is the environment without the variables that would point git at another repository.
func gitEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "GIT_") || strings.HasPrefix(kv, "GIT_SSH") || strings.HasPrefix(kv, "GIT_ASKPASS") {
			env = append(env, kv)
		}
	}
	return env
}

// gitProxy hands the configuration's proxy to git, in the environment rather than on a command line that all can read.
func gitProxy(proxy string) []string {
	if proxy == "" {
		return nil
	}
	if proxy == direct {
		proxy = ""
	}
	var env []string
	for _, name := range []string{"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"} {
		env = append(env, name+"="+proxy)
	}
	return env
}
