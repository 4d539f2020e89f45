package tpm

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/supervise"
)

func TestMain(m *testing.M) {
	supervise.Main()
	os.Exit(m.Run())
}

func TestArgs(t *testing.T) {
	common := []string{"socket", "--tpmstate", "dir=.", "--ctrl", "type=unixio,path=ctrl.sock"}
	for version, more := range map[vm.TPM][]string{vm.TPM12: nil, vm.TPM20: {"--tpm2"}} {
		if diff := cmp.Diff(append(common[:len(common):len(common)], more...), Args(version)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", version, diff)
		}
	}
}

// extend20 is a TPM2_PCR_Extend with an empty authorisation, as firmware sends it.
func extend20(pcr int, digests ...[]byte) []byte {
	body := binary.BigEndian.AppendUint32(nil, uint32(pcr))
	body = append(body, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0) // TPM_RS_PW
	body = binary.BigEndian.AppendUint32(body, uint32(len(digests)))
	for _, d := range digests {
		alg := map[int]uint16{20: 4, 32: 0xb, 48: 0xc, 64: 0xd}[len(d)]
		body = append(binary.BigEndian.AppendUint16(body, alg), d...)
	}
	return message(tag20Sessions, cc20Extend, body)
}

func message(tag uint16, code uint32, body []byte) []byte {
	m := binary.BigEndian.AppendUint16(nil, tag)
	m = binary.BigEndian.AppendUint32(m, uint32(headSize+len(body)))
	return append(binary.BigEndian.AppendUint32(m, code), body...)
}

func TestExtensions(t *testing.T) {
	d20, d32 := bytes.Repeat([]byte{1}, 20), bytes.Repeat([]byte{2}, 32)
	whole := extend20(2, d20, d32)
	two := []vm.Extension{{PCR: 2, Bank: "sha1", Digest: d20}, {PCR: 2, Bank: "sha256", Digest: d32}}
	for _, c := range []struct {
		name    string
		command []byte
		want    []vm.Extension
	}{
		{"TPM 2.0, two banks", whole, two},
		{"TPM 1.2", message(tag12Command, ord12Extend, append([]byte{0, 0, 0, 4}, d20...)), []vm.Extension{{PCR: 4, Bank: "sha1", Digest: d20}}},
		{"cut in the second digest", whole[:len(whole)-1], two[:1]},
		{"cut in the authorisation", whole[:headSize+6], nil},
		{"a length beyond the end", append(bytes.Clone(whole[:headSize+4]), 0xff, 0xff, 0xff, 0xff), nil},
		{"another command", message(0x8001, 0x17e, make([]byte, 40)), nil},
		{"nothing", make([]byte, headSize), nil},
	} {
		if diff := cmp.Diff(c.want, extensions(c.command)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func FuzzExtensions(f *testing.F) {
	f.Add(extend20(2, bytes.Repeat([]byte{1}, 20), bytes.Repeat([]byte{2}, 32)))
	f.Add(message(tag12Command, ord12Extend, make([]byte, 24)))
	f.Fuzz(func(t *testing.T, command []byte) {
		for _, e := range extensions(command) {
			if !bytes.Contains(command, e.Digest) {
				t.Errorf("the digest %x is not in the command", e.Digest)
			}
		}
	})
}

// fakeQEMU does on the control channel what QEMU does, and then speaks to the TPM as firmware does.
type fakeQEMU struct {
	t    *testing.T
	ctrl *net.UnixConn
	data net.Conn
}

func (q *fakeQEMU) control(command []byte, file *os.File) {
	q.t.Helper()
	var oob []byte
	if file != nil {
		oob = unix.UnixRights(int(file.Fd()))
	}
	if _, _, err := q.ctrl.WriteMsgUnix(command, oob, nil); err != nil {
		q.t.Fatal(err)
	}
	result := make([]byte, 4)
	if n, err := q.ctrl.Read(result); err != nil || n != 4 || !bytes.Equal(result, make([]byte, 4)) {
		q.t.Fatalf("command %x: %d bytes, %x, %v", command, n, result, err)
	}
}

func (q *fakeQEMU) command(m []byte) uint32 {
	q.t.Helper()
	if _, err := q.data.Write(m); err != nil {
		q.t.Fatal(err)
	}
	answer, err := readMessage(q.data)
	if err != nil {
		q.t.Fatal(err)
	}
	return code(answer)
}

// powerOn opens the data channel and has the TPM made ready for firmware.
func powerOn(t *testing.T, socket string) *fakeQEMU {
	t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	q := &fakeQEMU{t: t, ctrl: c}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer theirs.Close()
	defer ours.Close()
	if q.data, err = net.FileConn(ours); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.data.Close() })
	q.control([]byte{0, 0, 0, cmdSetData}, theirs)
	q.control([]byte{0, 0, 0, cmdInit, 0, 0, 0, 0}, nil)
	return q
}

func TestMeasure(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "q")
	tpm, err := Start(t.Context(), vm.TPM20, dir, socket)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm.Close()
	if _, err := tpm.PCRs(t.Context(), "sha256"); err == nil || !strings.Contains(err.Error(), "has not opened its TPM") {
		t.Errorf("before power-on: %v", err)
	}
	q := powerOn(t, socket)
	if _, err := tpm.PCRs(t.Context(), "sha256"); !errors.Is(err, vm.ErrTPMNotStarted) {
		t.Errorf("before TPM2_Startup: %v", err)
	}
	if rc := q.command(message(0x8001, 0x144, []byte{0, 0})); rc != 0 { // TPM2_Startup(TPM_SU_CLEAR)
		t.Fatalf("startup: %#x", rc)
	}
	digest := bytes.Repeat([]byte{0xab}, 32)
	if rc := q.command(extend20(2, digest)); rc != 0 {
		t.Fatalf("extend: %#x", rc)
	}
	q.command(extend20(99, digest)) // refused, and so not noted
	values, err := tpm.PCRs(t.Context(), "sha256")
	if err != nil {
		t.Fatal(err)
	}
	// sha256sum of 32 zeros and 32 times 0xab
	const want = "debb3e7acfff6dd18d501042273629f0b79cb206bb8c24f59f62ddb80849403b"
	if got := hex.EncodeToString(values[2]); got != want {
		t.Errorf("PCR 2 is %s, want %s", got, want)
	}
	if diff := cmp.Diff([]vm.Extension{{PCR: 2, Bank: "sha256", Digest: digest}}, tpm.Extensions()); diff != "" {
		t.Errorf("extensions (-want +got):\n%s", diff)
	}
	for bank, part := range map[string]string{"md5": "no bank", "SHA256": "no bank"} {
		if _, err := tpm.PCRs(t.Context(), bank); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v", bank, err)
		}
	}
	q.control([]byte{0, 0, 0, cmdShutdown}, nil)
	if again, err := tpm.PCRs(t.Context(), "sha256"); err != nil || !bytes.Equal(again[2], values[2]) {
		t.Errorf("after QEMU's goodbye: %x, %v", again[2], err)
	}
	q.control([]byte{0, 0, 0, cmdInit, 0, 0, 0, 0}, nil) // a reset
	if all := tpm.Extensions(); len(all) != 0 {
		t.Errorf("after a reset: %v", all)
	}
}

// A cancelled start leaves nothing behind.
func TestStartCancelled(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Start(ctx, vm.TPM20, dir, filepath.Join(dir, "q")); err == nil {
		t.Fatal("started")
	}
	if _, err := os.Stat(filepath.Join(dir, stateDir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its state is there: %v", err)
	}
}
