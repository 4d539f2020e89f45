package tpm

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// The control channel's commands that are not passed on as they are: include/swtpm/tpm_ioctl.h in swtpm's tree. Each is a
// number of 32 bits, big-endian as all there, with what belongs to it; the answer begins with a result of 32 bits.
const (
	cmdInit     = 0x02 // at power-on and at each reset
	cmdShutdown = 0x03
	cmdSetData  = 0x10 // comes with a descriptor: QEMU's end of the data channel
)

// largestCommand is more than QEMU sends at once on the control channel; only a migrated state is longer, and a machine
// with a TPM is not saved.
const largestCommand = 64 << 10

// serve takes QEMU's connection and passes on what it says, until either side is gone.
func (t *TPM) serve() {
	conn, err := t.socket.Accept()
	t.socket.Close()
	if err != nil {
		return
	}
	qemu := conn.(*net.UnixConn) //nolint:errcheck // the listener is a Unix socket's
	defer qemu.Close()
	go func() { _, _ = io.Copy(qemu, t.ctrl) }() // the answers
	buf, oob := make([]byte, largestCommand), make([]byte, unix.CmsgSpace(4*4))
	for {
		// QEMU writes a command at once and then waits for its answer (tpm_emulator_ctrlcmd, backends/tpm in its tree):
		// what is there to read is one command.
		n, oobn, _, _, err := qemu.ReadMsgUnix(buf, oob)
		if err != nil || n == 0 {
			return
		}
		if err := t.control(qemu, buf[:n], oob[:oobn]); err != nil {
			return
		}
	}
}

// control passes on one command of the control channel.
func (t *TPM) control(qemu *net.UnixConn, command, oob []byte) error {
	var number uint32
	if len(command) >= 4 {
		number = binary.BigEndian.Uint32(command)
	}
	switch number {
	case cmdShutdown: // QEMU ends, and the PCRs are wanted for longer
		_, err := qemu.Write(make([]byte, 4))
		return err
	case cmdSetData:
		return t.openData(command, oob)
	case cmdInit:
		t.mu.Lock()
		t.extended = nil
		t.mu.Unlock()
	}
	_, err := t.ctrl.Write(command)
	return err
}

// openData keeps QEMU's end of the data channel and gives swtpm another one.
func (t *TPM) openData(command, oob []byte) error {
	theirs, err := received(oob)
	if err != nil {
		return err
	}
	qemu, err := net.FileConn(theirs)
	theirs.Close()
	if err != nil {
		return fmt.Errorf("data channel: %w", err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("data channel: %w", err)
	}
	ours := os.NewFile(uintptr(pair[0]), "tpm data")
	swtpm, err := net.FileConn(ours)
	ours.Close()
	if err == nil {
		_, _, err = t.ctrl.WriteMsgUnix(command, unix.UnixRights(pair[1]), nil)
	}
	unix.Close(pair[1])
	if err != nil {
		qemu.Close()
		return fmt.Errorf("data channel: %w", err)
	}
	t.mu.Lock()
	t.data = swtpm
	t.mu.Unlock()
	go t.relay(qemu)
	return nil
}

// received is the open file that came with a message (SCM_RIGHTS, unix(7)).
func received(oob []byte) (*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		return nil, fmt.Errorf("data channel: no descriptor came with it (%w)", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("data channel: %d descriptors came with it (%w)", len(fds), err)
	}
	unix.CloseOnExec(fds[0])
	return os.NewFile(uintptr(fds[0]), "qemu's data channel"), nil
}

// relay passes on commands and answers of the data channel, and notes what is extended.
func (t *TPM) relay(qemu net.Conn) {
	defer qemu.Close()
	for {
		command, err := readMessage(qemu)
		if err != nil {
			return
		}
		answer, err := t.Send(command)
		if err != nil {
			return
		}
		if _, err := qemu.Write(answer); err != nil {
			return
		}
	}
}

// Send has the TPM carry out a command, between two of the machine's own. It is go-tpm's transport.
func (t *TPM) Send(command []byte) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.data == nil {
		return nil, fmt.Errorf("the machine has not opened its TPM")
	}
	if _, err := t.data.Write(command); err != nil {
		return nil, fmt.Errorf("send to the TPM: %w", err)
	}
	answer, err := readMessage(t.data)
	if err != nil {
		return nil, fmt.Errorf("read the TPM's answer: %w", err)
	}
	if code(answer) == 0 {
		t.extended = append(t.extended, extensions(command)...)
	}
	return answer, nil
}

// The head of commands and answers alike: a tag of 16 bits, the length of all in 32, a command's or a result's code in 32
// (TPM Main Specification part 2, and TPM 2.0 Library part 1, 18).
const (
	headSize    = 10
	largestSize = 64 << 10 // of a message; TPMs have buffers of 4 KiB
)

func code(message []byte) uint32 { return binary.BigEndian.Uint32(message[6:]) }

// readMessage reads a command or an answer.
func readMessage(r io.Reader) ([]byte, error) {
	head := make([]byte, headSize)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[2:])
	if size < headSize || size > largestSize {
		return nil, fmt.Errorf("a message of %d bytes", size)
	}
	message := append(head, make([]byte, size-headSize)...)
	_, err := io.ReadFull(r, message[headSize:])
	return message, err
}
