// Package agentbin holds what was built to run in a guest, the init and the agent, so that the host binary brings its own.
// It knows which binary belongs to which architecture and refuses to know what they do.
package agentbin

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"

	"github.com/belljar/belljar/fault"
)

//go:embed bin
var built embed.FS

// suffixes end the binaries' names, for each architecture of a guest spec.
var suffixes = map[string]string{"i686": "-386", "x86_64": "-amd64"}

// Agent is the guest-agent for arch (i686 or x86_64) and its SHA-256 in hex.
func Agent(arch string) (bin []byte, digest string, err error) { return binary("agent", arch) }

// Init is guest-agent/init for arch and its SHA-256 in hex.
func Init(arch string) (bin []byte, digest string, err error) { return binary("init", arch) }

func binary(name, arch string) (bin []byte, digest string, err error) {
	suffix, ok := suffixes[arch]
	if !ok {
		return nil, "", fault.New(fault.Input, "guest-agent", "no %s for architecture %q: i686 or x86_64", name, arch)
	}
	bin, err = built.ReadFile("bin/" + name + suffix)
	if err != nil {
		return nil, "", fault.New(fault.Host, "guest-agent",
			"this belljar was built without its guest agents: run make").
			WithRemedy("run 'make' in belljar's source folder and use the belljar that it builds")
	}
	sum := sha256.Sum256(bin)
	return bin, hex.EncodeToString(sum[:]), nil
}
