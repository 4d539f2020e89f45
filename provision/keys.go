package provision

import (
	"crypto/ed25519"
	"encoding/pem"
	"fmt"
	"io"

	"golang.org/x/crypto/ssh"
)

// Keys are the two key pairs of one run: the guest proves itself with the one, the host with the other.
// Each side accepts exactly the other's key, and both are thrown away with the run.
type Keys struct {
	host   ssh.Signer // the guest's: its public half is pinned in Open
	client ssh.Signer
	files  []KeyFile
}

// KeyFile is a file for the guest's folder of keys.
type KeyFile struct {
	Name string
	Mode uint32
	Data []byte
}

// NewKeys draws both pairs from rand, which is crypto/rand.Reader outside tests.
func NewKeys(rand io.Reader) (*Keys, error) {
	hostKey, host, err := newKey(rand)
	if err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	_, client, err := newKey(rand)
	if err != nil {
		return nil, fmt.Errorf("client key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(hostKey, "belljar") // openssh/PROTOCOL.key
	if err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	return &Keys{host: host, client: client, files: []KeyFile{
		{"ssh_host_ed25519_key", 0o600, pem.EncodeToMemory(block)},
		{"authorized_keys", 0o600, ssh.MarshalAuthorizedKey(client.PublicKey())},
	}}, nil
}

// newKey reads the seed itself: crypto/ed25519 does not promise to take its key from the given source.
func newKey(rand io.Reader) (ed25519.PrivateKey, ssh.Signer, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(rand, seed); err != nil {
		return nil, nil, err
	}
	key := ed25519.NewKeyFromSeed(seed)
	signer, err := ssh.NewSignerFromKey(key)
	return key, signer, err
}

// Files are the guest's: its private host key, and the one client key that it lets in.
func (k *Keys) Files() []KeyFile { return k.files }
