package initramfs

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"
)

// Recipe identifies what Build puts into an initramfs beside its Config: it goes into cache keys, and changes when
// the scripts do.
func Recipe() string {
	sum := sha256.Sum256([]byte(initScript + "\x00" + pid1Script + "\x00" + Ciphers + "\x00" + strings.Join(Wanted, " ")))
	return hex.EncodeToString(sum[:])
}

// BuildProof writes the smallest initramfs that shows that a kernel runs: init says the line and powers off. It goes
// to /dev/console, which devtmpfs has.
func BuildProof(w io.Writer, busybox File, line string, clock time.Time) error {
	busybox.Name, busybox.Mode = "bin/busybox", 0o755
	script := fmt.Sprintf("#!/bin/busybox sh\n"+
		"/bin/busybox mount -t devtmpfs dev /dev\n"+
		"echo '%s' >/dev/console\n"+
		"/bin/busybox poweroff -f\n", line)
	return write(w, clock, []string{"bin", "dev"}, nil, []File{busybox, Bytes("init", 0o755, []byte(script))})
}
