package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// powerOff ends the machine at once (reboot(2)). There is nothing to shut down in order: the root is read-only, the
// scratch disk is thrown away, and the output disk is written back.
func powerOff() error {
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		return fmt.Errorf("power off: %w", err)
	}
	return nil
}
