package pipeline

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/store"
	"github.com/belljar/belljar/verify"
)

func digestOf(data []byte) store.Digest {
	sum := sha256.Sum256(data)
	return store.Digest(hex.EncodeToString(sum[:]))
}

// thisHost is what the record tells of the machine that Belljar runs on.
func thisHost() verify.Host {
	h := verify.Host{OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU()}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	if data, err := os.ReadFile("/etc/os-release"); err == nil {
		for line := range strings.Lines(string(data)) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
				h.Distro = strings.Trim(v, `"'`) // os-release(5)
			}
		}
	}
	return h
}

// memory is the host's RAM in bytes: all of it, and what a new program may take (proc_meminfo(5)).
func memory() (total, available int64) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		n, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			continue
		}
		switch f[0] {
		case "MemTotal:":
			total = n << 10
		case "MemAvailable:":
			available = n << 10
		}
	}
	return total, available
}
