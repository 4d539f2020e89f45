package main

import (
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/guest-agent/wire"
)

// wake parks the guest, whose state is then saved, until a host wakes it: in this machine or, much more often, in
// another that goes on from the saved state. It says hello on the port when the guest is ready to be saved, takes one
// request there, makes of the guest what that says, and ends.
//
// Whatever was random before the state was saved is the same in every guest that goes on from it. So nothing that has
// drawn randomness for a secret may be alive now, and the kernel's generator is seeded anew before anything runs.
func wake(j *jar, port string) error {
	f, err := os.OpenFile(port, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("wake: %w", err)
	}
	defer f.Close()
	hello, err := greeting()
	if err != nil {
		return err
	}
	if err := clearFree(); err != nil {
		return fmt.Errorf("wake: %w", err)
	}
	w := wire.NewWriter(f)
	if err := w.Write(&wire.Message{Kind: wire.KindHello, Hello: hello}); err != nil {
		return fmt.Errorf("wake: %w", err)
	}
	m, err := wire.NewReader(f).Read()
	if err != nil {
		return fmt.Errorf("wake: %w", err)
	}
	if m.Kind != wire.KindWake {
		return fmt.Errorf("wake: %q is not what a parked guest can do", m.Kind)
	}
	if err := j.become(m.Wake); err != nil {
		_ = w.Write(&wire.Message{ID: m.ID, Kind: wire.KindError, Error: &wire.Error{Text: err.Error()}})
		return err
	}
	return w.Write(&wire.Message{ID: m.ID, Kind: wire.KindResult})
}

// become gives the guest its own randomness, its clock and its keys, in this order.
func (j *jar) become(w *wire.Wake) error {
	if err := seed(w.Entropy); err != nil {
		return fmt.Errorf("wake: entropy: %w", err)
	}
	now := unix.NsecToTimespec(w.Clock.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &now); err != nil {
		return fmt.Errorf("wake: clock: %w", err)
	}
	for _, f := range w.Files {
		if err := wire.CheckPath(f.Name); err != nil || filepath.Base(f.Name) != f.Name {
			return fmt.Errorf("wake: file %q: want a plain name: %w", f.Name, err)
		}
		if err := os.WriteFile(filepath.Join(j.state, f.Name), f.Data, os.FileMode(f.Mode)); err != nil {
			return fmt.Errorf("wake: %w", err)
		}
	}
	return nil
}

// reseed is RNDRESEEDCRNG (random(4), include/uapi/linux/random.h): what was mixed in counts from now on.
const reseed = 0x5207

// seed mixes entropy into the kernel's generator, credits it, and has the generator start anew from it.
func seed(entropy []byte) error {
	if len(entropy) < wire.WakeEntropy {
		return fmt.Errorf("%d bytes, want at least %d", len(entropy), wire.WakeEntropy)
	}
	f, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	// struct rand_pool_info: bits, bytes, then the bytes themselves.
	info := struct {
		bits, size int32
		data       [wire.WakeEntropy]byte
	}{bits: 8 * wire.WakeEntropy, size: wire.WakeEntropy}
	copy(info.data[:], entropy)
	if err := ioctl(f, unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&info))); err != nil {
		return err
	}
	return ioctl(f, reseed, 0)
}

func ioctl(f *os.File, request, arg uintptr) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, arg); errno != 0 {
		return errno
	}
	return nil
}

// spare is what clearFree leaves alone, so that nothing has to be reclaimed for it; it takes the rest in pieces.
const (
	spare = 64 << 20
	piece = 64 << 20
)

// clearFree has the kernel zero the memory that is free. What was freed is still written there: the initramfs, and the
// keys of the run that saves the state. Nobody needs it, and a state is the larger for it.
func clearFree() error {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return err
	}
	free := uint64(info.Freeram) * uint64(info.Unit) //nolint:unconvert // 32 bits on i686
	var held [][]byte
	for ; free > spare+piece; free -= piece {
		mem, err := unix.Mmap(-1, 0, piece, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			break // a 32-bit guest's address space is full: the state is larger for it, which is no fault
		}
		held = append(held, mem)
		_ = unix.Madvise(mem, unix.MADV_HUGEPAGE) // where there are none, it takes a little longer
		for i := 0; i < len(mem); i += os.Getpagesize() {
			mem[i] = 0
		}
	}
	for _, mem := range held {
		if err := unix.Munmap(mem); err != nil {
			return err
		}
	}
	return nil
}
