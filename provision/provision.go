// Package provision makes a booted guest ready and works in it: it opens SSH over a connection that somebody else
// dialled, connects to the guest-agent, hands it stages, and brings their results back from the output disk.
//
// It knows SSH, the wire protocol and the layout of the output disk. It refuses to know how the guest was started,
// what its console says, and what the stages build.
package provision

import "github.com/belljar/belljar/provision/agentbin"

// Agent is the guest-agent for arch (i686 or x86_64), and its SHA-256 in hex: part of every stage's identity.
func Agent(arch string) (bin []byte, digest string, err error) { return agentbin.Agent(arch) }

// Init is the first program of arch's initramfs, and its SHA-256 in hex.
func Init(arch string) (bin []byte, digest string, err error) { return agentbin.Init(arch) }
