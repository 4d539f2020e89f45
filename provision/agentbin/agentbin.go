// Package agentbin holds the built guest-agents, so that the host binary brings its own.
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

// files names the binary for each architecture of a guest spec.
var files = map[string]string{"i686": "bin/agent-386", "x86_64": "bin/agent-amd64"}

// Agent is the guest-agent for arch (i686 or x86_64) and its SHA-256 in hex.
func Agent(arch string) (bin []byte, digest string, err error) {
	name, ok := files[arch]
	if !ok {
		return nil, "", fault.New(fault.Input, "guest-agent", "no agent for architecture %q: i686 or x86_64", arch)
	}
	bin, err = built.ReadFile(name)
	if err != nil {
		return nil, "", fault.New(fault.Host, "guest-agent",
			"this belljar was built without its guest agents: run make").
			WithRemedy("run 'make' in belljar's source folder and use the belljar that it builds")
	}
	sum := sha256.Sum256(bin)
	return bin, hex.EncodeToString(sum[:]), nil
}
