package specs

import "time"

// The docstrings of the types in this file are the language's reference: the JSON Schema and docs/spec.md are made from
// them. A field whose tag says omitempty may be left out; every other one must be written.

// Spec says what to build, in which guest, and how to prove that it boots. A person writes it, in YAML.
type Spec struct {
	// The spec's name: lower-case letters, digits and `._+-`. It may lie in folders: `roms/seabios`.
	Name string `yaml:"name" json:"name"`
	// What it builds, for people. It does not count in the spec's digest.
	Description string `yaml:"description,omitempty" json:"description,omitempty"`
	// The guests that it builds in, each by its shipped name or by the path of its file, relative to this one.
	// The first is the default.
	Guests []string `yaml:"guests" json:"guests"`
	// What is built from. It may be empty.
	Sources []Source `yaml:"sources" json:"sources"`
	// The steps of the build.
	Stages []Stage `yaml:"stages" json:"stages"`
	// The files that come out.
	Artifacts []Artifact `yaml:"artifacts" json:"artifacts"`
	// The boots that must succeed before any artifact comes out. Empty for what cannot boot, like a toolchain.
	Smoke []Smoke `yaml:"smoke" json:"smoke"`
}

// Source is one input of the build: exactly one of `debian`, `url` and `git`, each with its pin.
// It appears in the guest, unpacked and writable, in the folder `$SOURCES/NAME`.
// Of a Debian source package this is the upstream tree with `debian/` laid in; its patches are not applied.
type Source struct {
	// The name of its folder.
	Name string `yaml:"name" json:"name"`
	// A Debian source package, from the suite of the spec's first guest.
	Debian string `yaml:"debian,omitempty" json:"debian,omitempty"`
	// With `debian`: its exact version.
	Version string `yaml:"version,omitempty" json:"version,omitempty"`
	// A tarball or any other file, by https or http.
	URL string `yaml:"url,omitempty" json:"url,omitempty"`
	// With `url`: the file's SHA-256, 64 lower-case hex digits.
	SHA256 string `yaml:"sha256,omitempty" json:"sha256,omitempty"`
	// The URL of a git repository, by https or http.
	Git string `yaml:"git,omitempty" json:"git,omitempty"`
	// With `git`: the full commit, 40 or 64 lower-case hex digits. Branches and tags move, so they are refused.
	Commit string `yaml:"commit,omitempty" json:"commit,omitempty"`
}

// Stage is a script that runs in the guest, as an unprivileged user.
// Its environment holds `SOURCES`, `STAGES`, `OUT`, `HOME`, `PATH`, `LC_ALL`, `TZ`, `SOURCE_DATE_EPOCH`, the spec's
// `env`, and nothing else.
type Stage struct {
	// The stage's name.
	Name string `yaml:"name" json:"name"`
	// The stages that run before it: `STAGE` of the same spec, or `SPEC#STAGE` of another, which is named as in a command,
	// a path being relative to this file. Their outputs are in the folders `$STAGES/STAGE`. The other spec has a lock of
	// its own and must build in all guests of this one.
	Needs []string `yaml:"needs,omitempty" json:"needs,omitempty"`
	// The sources that it sees, by their names; left out, all. A stage that sees less need not be run again as often.
	Sources []string `yaml:"sources,omitzero" json:"sources,omitzero"`
	// The Debian packages that it uses, beside the guest's own.
	Packages []string `yaml:"packages,omitempty" json:"packages,omitempty"`
	// More variables. `SOURCES`, `STAGES`, `OUT` and `HOME` cannot be set.
	Env map[string]string `yaml:"env,omitempty" json:"env,omitempty"`
	// What is run, by `/bin/sh -eu`.
	Script string `yaml:"script" json:"script"`
	// The longest wall time in the guest, at the pace of KVM; left out, there is no limit.
	Timeout Duration `yaml:"timeout,omitempty" json:"timeout,omitempty"`
	// The longest time without output, at the pace of KVM.
	Silence Duration `yaml:"silence,omitempty" json:"silence,omitempty"`
	// The programs that it makes and runs itself, for `belljar build --strict`: patterns as of a shell, each held against
	// as many of the last parts of a program's path as it has itself. `conftest*`, `kconfig/conf`.
	Makes []string `yaml:"makes,omitempty" json:"makes,omitempty"`
	// The guest's memory while it runs, in whole MiB, where it needs another amount than the guest's own: `4GiB`.
	Memory Size `yaml:"memory,omitempty" json:"memory,omitempty"`
	// Where what it writes lies: on the guest's scratch `disk`, or in its memory: `tmpfs`, which is quicker and smaller.
	Scratch string `yaml:"scratch,omitempty" json:"scratch,omitempty"`
	// The files and folders that it makes, relative to `$OUT`; a folder ends in a slash. All must be there at the end.
	Outputs []string `yaml:"outputs" json:"outputs"`
}

// Where a stage's files lie. A spec that says disk is as one that says nothing.
const (
	ScratchDisk  = "disk"
	ScratchTmpfs = "tmpfs"
)

// Artifact is an output of a stage that a user wants: a ROM.
type Artifact struct {
	// The file's name under `out/`.
	Name string `yaml:"name" json:"name"`
	// The stage that makes it.
	Stage string `yaml:"stage" json:"stage"`
	// One of that stage's outputs.
	Path string `yaml:"path" json:"path"`
}

// Guest says in what machine and with which userland a build runs. It is a file of its own, for many specs share it.
type Guest struct {
	// The guest's name.
	Name string `yaml:"name" json:"name"`
	// What it is, for people. It does not count in a spec's digest.
	Description string `yaml:"description,omitempty" json:"description,omitempty"`
	// The architecture of kernel and userland: `x86_64` or `i686`.
	Arch string `yaml:"arch" json:"arch"`
	// The suite of the Debian archive: `bookworm`, `trixie`.
	Suite string `yaml:"suite" json:"suite"`
	// Take the suite's security updates too: `SUITE-security`, which lies in an archive of its own (`debian-security/`).
	Security bool `yaml:"security,omitempty" json:"security,omitempty"`
	// Take `SUITE-updates` too: what a point release will bring and cannot wait. Of a package in several suites the
	// highest version is taken, as apt does where nothing is pinned (apt_preferences(5)).
	Updates bool `yaml:"updates,omitempty" json:"updates,omitempty"`
	// The moment of the archive that is resolved against, as the snapshot archive writes it: `20260101T000000Z`.
	// Indexes then come from the snapshot archive alone, and a Release file past its Valid-Until is accepted.
	// Left out, the archive's present state is resolved against.
	Snapshot string `yaml:"snapshot,omitempty" json:"snapshot,omitempty"`
	// The package that, itself or through its dependencies, brings the kernel: `linux-image-amd64`.
	Kernel string `yaml:"kernel" json:"kernel"`
	// The Debian packages that it holds beside the Essential ones and those of the stages.
	Packages []string `yaml:"packages" json:"packages"`
	// QEMU's machine type, with its version.
	Machine string `yaml:"machine" json:"machine"`
	// QEMU's CPU model, with its version, so that every host shows the guest the same CPU: `host` and `max` are
	// refused.
	CPU string `yaml:"cpu" json:"cpu"`
	// The machine's memory, in whole MiB.
	Memory Size `yaml:"memory" json:"memory"`
	// How many CPUs it has.
	CPUs int `yaml:"cpus" json:"cpus"`
	// What the guest's clock shows at power-on, in UTC, and the greatest modification time of a file in its image.
	Clock time.Time `yaml:"clock" json:"clock"`
	// The size of the disk on which the build works, in whole MiB.
	Scratch Size `yaml:"scratch" json:"scratch"`
}
