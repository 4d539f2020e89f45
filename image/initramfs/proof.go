package initramfs

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"
)

// buildRecipe is the version of what Build makes: it grows whenever the same Config would come to another archive.
const buildRecipe = "2"

// Recipe identifies what Build puts into an initramfs beside its Config: it goes into cache keys, and changes when
// the script does.
func Recipe() string {
	sum := sha256.Sum256([]byte(buildRecipe + "\x00" + pid1Script + "\x00" + Ciphers + "\x00" + strings.Join(Wanted, " ")))
	return hex.EncodeToString(sum[:])
}

// ProofWork is how many times the proof's shell counts: a tenth of a second's work for a processor of today.
const ProofWork = 100_000

// ProofRecipe identifies what BuildProof writes beside what it is given, for cache keys.
func ProofRecipe() string { return proofScript("runs", "done") }

// proofScript says a line, works, and says another. It writes to /dev/console, which devtmpfs has.
func proofScript(runs, done string) string {
	return fmt.Sprintf("#!/bin/busybox sh\n"+
		"/bin/busybox mount -t devtmpfs dev /dev\n"+
		"echo '%s' >/dev/console\n"+
		"i=0; while [ $i -lt %d ]; do i=$((i+1)); done\n"+
		"echo '%s' >/dev/console\n"+
		"/bin/busybox poweroff -f\n", runs, ProofWork, done)
}

// BuildProof writes the smallest initramfs that shows that a kernel runs and how fast: init says a line, counts to
// ProofWork, says another and powers off.
func BuildProof(w io.Writer, busybox File, runs, done string, clock time.Time) error {
	busybox.Name, busybox.Mode = "bin/busybox", 0o755
	init := Bytes("init", 0o755, []byte(proofScript(runs, done)))
	return write(w, clock, []string{"bin", "dev"}, nil, []File{busybox, init})
}
