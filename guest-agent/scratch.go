package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// mountTmpfs lays memory over the stages' folder, until the next stage.
func (s *stager) mountTmpfs(root bool) error {
	opts := "mode=755,size=75%"
	if u := s.jar.user; !root && u != nil {
		opts += fmt.Sprintf(",uid=%d,gid=%d", u.Uid, u.Gid)
	}
	if err := unix.Mount("build", s.jar.build, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, opts); err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", s.jar.build, err)
	}
	s.mounts = append(s.mounts, s.jar.build)
	return nil
}

// gauge watches how full the filesystem of a folder gets. A nil gauge watches nothing.
type gauge struct {
	dir  string
	size int64 // of the filesystem, in bytes; 0: not looked at yet
	low  bool  // once there was next to no room, or no inode
}

// noRoom is what is left of a full filesystem, in bytes at most: a write that does not fit is written in part.
const noRoom = 1 << 20

func (g *gauge) look() {
	var st unix.Statfs_t
	if g == nil || unix.Statfs(g.dir, &st) != nil {
		return
	}
	block := int64(st.Bsize) //nolint:unconvert // 32 bits wide on i386
	g.size = int64(st.Blocks) * block
	// A filesystem without a number of inodes, or of blocks, has no end of them.
	if g.size > 0 && int64(st.Bavail)*block < noRoom || st.Files > 0 && st.Ffree == 0 {
		g.low = true
	}
}

// full is the size of a filesystem that was full, else 0.
func (g *gauge) full() int64 {
	if !g.low {
		return 0
	}
	return g.size
}
