package main

import (
	"encoding/binary"
	"errors"
	"syscall"
	"unsafe"
)

// The kernel's include/uapi/linux/dm-ioctl.h. The structures are the same on i386 and x86-64.
const (
	controlPath = "/dev/mapper/control"

	headerSize = 312 // struct dm_ioctl
	specSize   = 40  // struct dm_target_spec

	devCreate  = 0xc138fd03 // DM_DEV_CREATE: _IOWR(0xfd, 3, struct dm_ioctl)
	devRemove  = 0xc138fd04
	devSuspend = 0xc138fd06 // … and resume: without DM_SUSPEND_FLAG
	tableLoad  = 0xc138fd09

	readOnly = 1 << 0 // DM_READONLY_FLAG

	maxName   = 128
	maxParams = 1024
)

// activate makes the read-only device NAME with one target over all of it. Its node is /dev/dm-0, of the first such
// device: devtmpfs makes it.
func activate(name string, t target) (err error) {
	if name == "" || len(name) >= maxName || !plain(name) {
		return errors.New("the device's name is not made of small letters, digits, '-' and '_'")
	}
	if len(t.params) > maxParams {
		return errors.New("the target's parameters are too long")
	}
	fd, err := syscall.Open(controlPath, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fail("open "+controlPath, err)
	}
	defer syscall.Close(fd)
	if err := request(fd, devCreate, header(name, 0, 0)); err != nil {
		return fail("create "+name, err)
	}
	defer func() {
		if err != nil {
			_ = request(fd, devRemove, header(name, 0, 0)) // what matters is why it came to nothing
		}
	}()
	if err := request(fd, tableLoad, table(name, t)); err != nil {
		return fail("load "+t.kind+" "+t.params, err)
	}
	if err := request(fd, devSuspend, header(name, 0, 0)); err != nil {
		return fail("resume "+name, err)
	}
	return nil
}

// header is a struct dm_ioctl with room for more behind it.
func header(name string, flags uint32, more int) []byte {
	b := make([]byte, headerSize+more)
	le := binary.LittleEndian // both architectures'
	le.PutUint32(b[0:], 4)    // version 4.0.0: what every kernel since 2.6 accepts
	le.PutUint32(b[12:], uint32(len(b)))
	le.PutUint32(b[16:], headerSize) // where what follows begins
	le.PutUint32(b[28:], flags)
	copy(b[48:48+maxName-1], name)
	return b
}

// table is the header with one struct dm_target_spec and its parameters, which end in a NUL.
func table(name string, t target) []byte {
	size := (specSize + len(t.params) + 1 + 7) &^ 7
	b := header(name, readOnly, size)
	le := binary.LittleEndian
	le.PutUint32(b[20:], 1) // targets
	spec := b[headerSize:]
	le.PutUint64(spec[8:], t.sectors)
	le.PutUint32(spec[20:], uint32(size))
	copy(spec[24:39], t.kind)
	copy(spec[specSize:], t.params)
	return b
}

func request(fd int, number uintptr, b []byte) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), number, uintptr(unsafe.Pointer(&b[0]))); errno != 0 {
		return errno
	}
	return nil
}
