package vm

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/belljar/belljar/atomicfile"
)

// memoryFile holds the proofs of KVM in the cache folder. It is a cache: an unreadable one counts as empty.
const memoryFile = "kvm-proofs.json"

type remembered struct {
	Key   Key       `json:"key"`
	Proof Proof     `json:"proof"`
	At    time.Time `json:"at"`
}

func memories(dir string) []remembered {
	b, err := os.ReadFile(filepath.Join(dir, memoryFile))
	if err != nil {
		return nil
	}
	var all []remembered
	if json.Unmarshal(b, &all) != nil {
		return nil
	}
	return all
}

// Recall finds the proof of a key.
func Recall(dir string, key Key) (Proof, bool) {
	for _, m := range memories(dir) {
		if m.Key == key && m.Proof.Outcome != "" { // one without is of an earlier Belljar
			return m.Proof, true
		}
	}
	return Proof{}, false
}

// Remember keeps the proof of a key, and forgets those of the host's earlier boots.
func Remember(dir string, key Key, p Proof) error {
	keep := []remembered{{Key: key, Proof: p, At: time.Now().UTC().Truncate(time.Second)}}
	for _, m := range memories(dir) {
		if m.Key.BootID == key.BootID && m.Key != key {
			keep = append(keep, m)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("remember proof: %w", err)
	}
	return writeJSON(filepath.Join(dir, memoryFile), keep)
}

// writeJSON replaces a file at once.
func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(path), err)
	}
	if err := atomicfile.Write(path, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}
