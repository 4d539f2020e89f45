package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/guest-agent/wire"
)

// lookupTime bounds the wait for a name server that cannot be there.
const lookupTime = 2 * time.Second

// probe looks for every way out of the jar that it knows.
func probe(ctx context.Context, name string) wire.Seal {
	if name == "" {
		name = "example.com" // RFC 2606: answers wherever there is an Internet
	}
	s := wire.Seal{
		Interfaces: interfaces("/sys/class/net"),
		Routes:     append(routes4("/proc/net/route"), routes6("/proc/net/ipv6_route")...),
		Mounts:     sharedMounts("/proc/self/mounts"),
		NameLookup: lookup(ctx, name),
		Clock:      time.Now().UTC(),
		Kernel:     kernel(),
		CPU:        cpuModel("/proc/cpuinfo"),
	}
	s.IPLink = ipLink(ctx, s.Interfaces)
	s.Leaks = leaks(s, name)
	s.Sealed = len(s.Leaks) == 0
	return s
}

func leaks(s wire.Seal, name string) []string {
	all := []string{}
	for _, n := range s.Interfaces {
		if n != "lo" {
			all = append(all, fmt.Sprintf("There is a network interface beside lo: %s.", n))
		}
	}
	for _, r := range s.Routes {
		all = append(all, fmt.Sprintf("There is a route that leaves lo: %s.", r))
	}
	for _, m := range s.Mounts {
		all = append(all, fmt.Sprintf("A folder of another machine is mounted: %s.", m))
	}
	if s.NameLookup == "" {
		all = append(all, fmt.Sprintf("The name %s was looked up and found.", name))
	}
	if len(s.Interfaces) == 0 {
		all = append(all, "The network interfaces cannot be listed, so that nothing is proven.")
	}
	return all
}

// interfaces lists /sys/class/net; a plain file there, such as bonding_masters, is none.
func interfaces(dir string) []string {
	all := []string{}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if !e.Type().IsRegular() {
			all = append(all, e.Name())
		}
	}
	return all
}

// routes4 lists the IPv4 routes that leave lo: a heading, then the interface first in each line (net/ipv4/fib_trie.c).
func routes4(file string) []string {
	all := []string{}
	for i, line := range readLines(file) {
		if f := strings.Fields(line); i > 0 && len(f) > 0 && f[0] != "lo" {
			all = append(all, strings.Join(f, " "))
		}
	}
	return all
}

// routes6 lists the IPv6 routes that leave lo: the interface is the last in each line (net/ipv6/route.c).
func routes6(file string) []string {
	all := []string{}
	for _, line := range readLines(file) {
		if f := strings.Fields(line); len(f) > 0 && f[len(f)-1] != "lo" {
			all = append(all, strings.Join(f, " "))
		}
	}
	return all
}

// shared are the filesystems whose files are another machine's.
var shared = map[string]bool{
	"9p": true, "virtiofs": true, "nfs": true, "nfs4": true, "cifs": true, "smb3": true, "smbfs": true, "ceph": true,
	"afs": true, "coda": true, "vboxsf": true, "prl_fs": true, "vmhgfs": true, "fuse.sshfs": true,
	"fuse.vmhgfs-fuse": true,
}

// sharedMounts lists them as proc_pid_mounts(5) has them: device, place, type, options.
func sharedMounts(file string) []string {
	all := []string{}
	for _, line := range readLines(file) {
		if f := strings.Fields(line); len(f) > 2 && shared[f[2]] {
			all = append(all, strings.Join(f[:3], " "))
		}
	}
	return all
}

// lookup is the error of a name's lookup, empty if it was found.
func lookup(ctx context.Context, name string) string {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	if _, err := (&net.Resolver{PreferGo: true}).LookupHost(ctx, name); err != nil {
		return err.Error()
	}
	return ""
}

// ipLink is what 'ip link' prints, or the same facts where there is no such program.
func ipLink(ctx context.Context, names []string) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, prog := range []string{"/usr/bin/ip", "/usr/sbin/ip", "/bin/ip", "/sbin/ip"} {
		if out, err := exec.CommandContext(ctx, prog, "link").Output(); err == nil {
			return string(out)
		}
	}
	var b strings.Builder
	for _, n := range names {
		read := func(what string) string {
			b, _ := os.ReadFile(filepath.Join("/sys/class/net", n, what))
			return strings.TrimSpace(string(b))
		}
		fmt.Fprintf(&b, "%s: %s mtu %s state %s address %s\n",
			read("ifindex"), n, read("mtu"), read("operstate"), read("address"))
	}
	return b.String()
}

func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	str := func(b [65]byte) string { s, _, _ := bytes.Cut(b[:], []byte{0}); return string(s) }
	return strings.Join([]string{str(u.Sysname), str(u.Release), str(u.Version), str(u.Machine)}, " ")
}

func cpuModel(file string) string {
	for _, line := range readLines(file) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func readLines(file string) []string {
	b, _ := os.ReadFile(file) // none is as good as empty: a kernel without IPv6 has no ipv6_route
	return strings.Split(strings.TrimRight(string(b), "\n"), "\n")
}
