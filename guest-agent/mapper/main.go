// The mapper lays dm-verity over the guest's root before anything of it is read: the initramfs runs it with the root's
// partition, the partition of its hash tree, and the root hash from the kernel's command line.
//
// It knows device-mapper's ioctls and the head of a hash tree. It refuses to know how a tree is made (image/verity
// does), and believes nothing that it reads there: the root hash covers the salt and every block, and a wrong size or
// algorithm gives another hash. It is in every initramfs, so it has to be small and quick: system calls, no fmt.
package main

import "os"

const usage = "usage: mapper NAME DATA-DEVICE HASH-DEVICE ROOT-HASH\n"

func main() {
	if len(os.Args) != 5 {
		die(usage)
	}
	name, data, hashes, root := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	head, err := readHead(hashes)
	if err != nil {
		die("mapper: " + hashes + ": " + err.Error() + "\n")
	}
	sb, err := parseSuperblock(head)
	if err != nil {
		die("mapper: " + hashes + ": " + err.Error() + "\n")
	}
	t, err := sb.target(data, hashes, root)
	if err != nil {
		die("mapper: " + err.Error() + "\n")
	}
	if err := activate(name, t); err != nil {
		die("mapper: " + err.Error() + "\n")
	}
}

func die(text string) {
	_, _ = os.Stderr.WriteString(text) // there is nobody else to tell
	os.Exit(1)
}

// readHead reads where the superblock lies: the first 512 bytes of the partition.
func readHead(device string) ([]byte, error) {
	f, err := os.Open(device)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, superblockSize)
	_, err = f.ReadAt(head, 0)
	return head, err
}
