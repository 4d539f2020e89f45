package pipeline

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	"github.com/belljar/belljar/image"
	"github.com/belljar/belljar/image/initramfs"
	"github.com/belljar/belljar/specs"
)

// An identity is the SHA-256 of everything that may influence a result, as canonical JSON: Go's encoder writes struct
// fields in their order and map keys sorted, so equal values give equal bytes. Same identity, same result.

func identity(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain values of this package only
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// machineIdentity is what a guest sees of its machine. The accelerator is left out on purpose: it must not change a
// byte.
type machineIdentity struct {
	Arch, Type, CPU string
	CPUs            int
	Memory, Scratch int64
	Clock           int64  // Unix seconds
	Kernel          string // its command line
}

func machineOf(g *specs.Guest) machineIdentity {
	return machineIdentity{
		g.Arch, g.Machine, g.CPU, g.CPUs, int64(g.Memory), int64(g.Scratch), g.Clock.Unix(), initramfs.Cmdline,
	}
}

// stageMemory is what a stage's machine has: memory of its own, or the guest's.
func stageMemory(s *specs.Stage, g *specs.Guest) int64 { return int64(cmp.Or(s.Memory, g.Memory)) }

// stageMachine is the machine of a stage.
func stageMachine(s *specs.Stage, g *specs.Guest) machineIdentity {
	m := machineOf(g)
	m.Memory = stageMemory(s, g)
	return m
}

// imageIdentity names an image by what it is made of, so that it is known before the image is.
// Kernel and initramfs count as well: maintainer scripts run under them.
func imageIdentity(g *specs.Guest, lg *specs.LockedGuest, agent string) string {
	var packages, kernel []string
	for _, p := range lg.Packages {
		if p.Kernel {
			kernel = append(kernel, p.SHA256)
		} else {
			packages = append(packages, p.SHA256)
		}
	}
	return identity(struct {
		What      string
		Recipe    string
		Initramfs string
		Machine   machineIdentity
		Agent     string
		Packages  []string
		Kernel    []string
	}{"image", image.Version, initramfs.Recipe(), machineOf(g), agent, packages, kernel})
}

// identify settles a node's identity, when those of its needs are.
func (n *node) identify() {
	var needs []string
	for _, need := range n.needs {
		needs = append(needs, need.id)
	}
	n.id = stageIdentity(n.stage, n.imageID, n.guest, n.sources(), needs, n.agent)
}

// sources are those that the stage sees.
func (n *node) sources() []specs.LockedSource {
	all := n.lock.Sources
	if n.stage.Sources == nil {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(s specs.LockedSource) bool {
		return !slices.Contains(n.stage.Sources, s.Name)
	})
}

// stageIdentity names what a stage will make. Its needs come in by their own identities.
func stageIdentity(s *specs.Stage, img string, g *specs.Guest, sources []specs.LockedSource, needs []string,
	agent string) string {
	return identity(struct {
		What    string
		Image   string
		Machine machineIdentity
		Agent   string
		Sources []specs.LockedSource
		Name    string
		Env     map[string]string
		Script  string
		Outputs []string
		Needs   []string
		Scratch string `json:",omitempty"` // a file system orders names its own way
	}{"stage", img, stageMachine(s, g), agent, sources, s.Name, StageEnv(s, g), s.Script, s.Outputs, needs, s.Scratch})
}
