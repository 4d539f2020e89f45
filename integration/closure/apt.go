package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/belljar/belljar/image/debian"
)

// target is a suite with its updates and security updates, for one architecture.
type target struct{ suite, arch string }

func (t target) String() string { return t.suite + "/" + t.arch }

// aptRoot is an apt of its own: sources, indexes, cache and an empty dpkg status in one folder.
type aptRoot struct {
	dir    string
	suites []string // in the order in which Belljar reads them

	simulate bool // ask with -s, which also simulates the installation, and takes twice as long
}

// openApt makes the root, and fetches the indexes where they are not there or are wanted anew. A mirror that lacks the
// updates of a suite does not stop the comparison: it is made without them, and the table says so.
func openApt(ctx context.Context, dir, keyring string, t target, update bool) (*aptRoot, error) {
	main, security, err := mirrors(ctx)
	if err != nil {
		return nil, err
	}
	if keyring, err = filepath.Abs(keyring); err != nil {
		return nil, err
	}
	a := &aptRoot{dir: dir}
	if err := a.configure(ctx, t); err != nil {
		return nil, err
	}
	sources := [][2]string{{main, t.suite}, {main, t.suite + "-updates"}, {security, t.suite + "-security"}}
	for n := len(sources); ; n-- {
		var list strings.Builder
		a.suites = nil
		for _, s := range sources[:n] {
			fmt.Fprintf(&list, "deb [signed-by=%s] %s %s main\n", keyring, s[0], s[1])
			a.suites = append(a.suites, s[1])
		}
		if err := put(filepath.Join(dir, "etc/sources.list"), list.String()); err != nil {
			return nil, err
		}
		switch files, err := a.files(ctx); {
		case err != nil:
			return nil, err
		case update || len(files) == 0:
		case len(files) == n:
			_, err := a.run(ctx, "apt-cache", "gencaches")
			return a, err
		default: // what the last update could not have, this run does without
			fmt.Fprintf(os.Stderr, "%s: compared without %s (-update tries again)\n", t, sources[n-1][1])
			continue
		}
		out, err := a.run(ctx, "apt-get", "update", "-q", "--error-on=any")
		if err == nil {
			break
		}
		if n == 1 || ctx.Err() != nil {
			return nil, fmt.Errorf("apt-get update: %w\n%s", err, out)
		}
		fmt.Fprintf(os.Stderr, "%s: compared without %s, which cannot be had:\n%s", t, sources[n-1][1], errorsOf(out))
	}
	_, err = a.run(ctx, "apt-cache", "gencaches")
	return a, err
}

// errorsOf are the lines of apt's output that say what went wrong.
func errorsOf(out []byte) string {
	var b strings.Builder
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "E:") {
			b.WriteString("  " + line)
		}
	}
	return b.String()
}

// configure writes the root's apt.conf: nothing of the machine's but its proxy.
func (a *aptRoot) configure(ctx context.Context, t target) error {
	proxy, err := exec.CommandContext(ctx, "apt-config", "dump", "--format", `%F "%v";%n`, "Acquire").Output()
	if err != nil {
		return fmt.Errorf("apt-config: %w", err)
	}
	var conf strings.Builder
	for line := range strings.Lines(string(proxy)) {
		if strings.Contains(line, "::Proxy") {
			conf.WriteString(line)
		}
	}
	fmt.Fprintf(&conf, `Dir %q;
Dir::State "state"; Dir::State::status "status"; Dir::Cache "cache"; Dir::Etc "etc";
#clear APT::Architectures;
APT::Architecture %q;
APT::Architectures { %[2]q; };
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::GzipIndexes "false";
Debug::NoLocking "true";
`, a.dir+"/", t.arch)
	for name, text := range map[string]string{
		"apt.conf": conf.String(), "status": "", "state/lists/partial/.keep": "", "cache/archives/partial/.keep": "",
		"etc/apt.conf.d/.keep": "", "etc/preferences.d/.keep": "", "etc/sources.list.d/.keep": "",
	} {
		if err := put(filepath.Join(a.dir, name), text); err != nil {
			return err
		}
	}
	return nil
}

func put(name, text string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(text), 0o644)
}

func (a *aptRoot) run(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(a.dir, "apt.conf"), "LC_ALL=C")
	return cmd.CombinedOutput()
}

// mirrors asks the machine's apt for the roots of Debian's main and security archive.
func mirrors(ctx context.Context) (main, security string, err error) {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)",
		"Created-By: Packages").Output()
	if err != nil {
		return "", "", fmt.Errorf("apt-get indextargets: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) != 3 || f[2] != "main" {
			continue
		}
		switch uri := strings.TrimRight(f[0], "/"); {
		case strings.HasSuffix(f[1], "-security") && security == "":
			security = uri
		case !strings.Contains(f[1], "-") && strings.HasSuffix(uri, "/debian") && main == "":
			main = uri
		}
	}
	if main == "" {
		return "", "", errors.New("apt on this machine has no mirror of Debian's main archive: this needs a Debian host")
	}
	if security == "" {
		security = main + "-security"
	}
	return main, security, nil
}

// files are the indexes that apt reads, by suite; those that are there.
func (a *aptRoot) files(ctx context.Context) (map[string]string, error) {
	out, err := a.run(ctx, "apt-get", "indextargets", "--format", "$(RELEASE) $(FILENAME)", "Created-By: Packages")
	if err != nil {
		return nil, fmt.Errorf("apt-get indextargets: %w\n%s", err, out)
	}
	files := map[string]string{}
	for line := range strings.Lines(string(out)) {
		suite, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		if _, err := os.Stat(file); err == nil {
			files[suite] = file
		}
	}
	return files, nil
}

// index reads with Belljar's reader the very files that apt reads.
func (a *aptRoot) index(ctx context.Context) (*debian.Index, error) {
	files, err := a.files(ctx)
	if err != nil {
		return nil, err
	}
	var all []*debian.Index
	for _, suite := range a.suites {
		f, err := os.Open(files[suite])
		if err != nil {
			return nil, err
		}
		idx, err := debian.ReadIndex(suite, suite, bufio.NewReaderSize(f, 1<<20))
		f.Close()
		if err != nil {
			return nil, err
		}
		all = append(all, idx)
	}
	return debian.Merge(all...), nil
}

// install asks apt what it would install, as "name version"; nil and no error where it finds no way.
//
// It asks with --print-uris: as with -s, apt decides what to install, and then names it rather than doing it.
func (a *aptRoot) install(ctx context.Context, names []string) ([]string, error) {
	how := "--print-uris"
	if a.simulate {
		how = "-s"
	}
	out, err := a.run(ctx, append([]string{"apt-get", "install", "--no-install-recommends", "-qq", how}, names...)...)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if ok && exit.ExitCode() == 100 && (bytes.Contains(out, []byte("unmet dependencies")) ||
			bytes.Contains(out, []byte("no installation candidate")) || bytes.Contains(out, []byte("Unable to locate package"))) {
			return nil, nil
		}
		return nil, fmt.Errorf("apt-get install: %w\n%s", err, out)
	}
	all, err := installed(string(out), a.simulate)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("apt-get install names nothing:\n%s", out)
	}
	return all, err
}

// installed reads what apt names: with -s lines 'Inst make (4.3-4.1 Debian:12.0/stable [amd64])', else lines
// 'URL' make_4.3-4.1_amd64.deb SIZE HASH, whose second word has the ':' of an epoch as %3a.
func installed(out string, simulated bool) ([]string, error) {
	var all []string
	for line := range strings.Lines(out) {
		w := strings.Fields(line)
		switch {
		case simulated && len(w) > 2 && w[0] == "Inst":
			all = append(all, w[1]+" "+strings.TrimPrefix(w[2], "("))
		case !simulated && len(w) > 2 && strings.HasPrefix(w[0], "'"):
			file, err := url.PathUnescape(w[1])
			parts := strings.Split(file, "_")
			if err != nil || len(parts) != 3 {
				return nil, fmt.Errorf("apt names the file %q, want NAME_VERSION_ARCH.deb", w[1])
			}
			all = append(all, parts[0]+" "+parts[1])
		}
	}
	slices.Sort(all)
	return all, nil
}
