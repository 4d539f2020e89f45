package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/provision"
	"github.com/belljar/belljar/vm"
	"github.com/belljar/belljar/vm/fake"
)

// throughDoor enters a shell by a door, from the outside to the inside.
func throughDoor(ctx context.Context, t *testing.T, shell shellFunc, sio ShellIO) (int, error) {
	t.Helper()
	dir := t.TempDir()
	l, err := listenIn(dir, doorName)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	inside := make(chan struct{})
	go func() {
		defer close(inside)
		if c, err := l.Accept(); err == nil {
			serveDoor(t.Context(), c, shell)
		}
	}()
	c, err := dialIn(ctx, dir, doorName)
	if err != nil {
		t.Fatal(err)
	}
	code, err := enterDoor(ctx, c, sio)
	c.Close()
	select {
	case <-inside:
	case <-time.After(20 * time.Second):
		t.Error("the inside goes on though nobody is there any more")
	}
	return code, err
}

// What is typed reaches the shell, what it prints comes back, not a byte lost or added; so do sizes and its exit code.
func TestDoor(t *testing.T) {
	all := make([]byte, 300<<10)
	for i := range all {
		all[i] = byte(i * 7)
	}
	sizes := make(chan ShellSize)
	shell := func(_ context.Context, term provision.Terminal) (int, error) {
		got, err := io.ReadAll(term.In)
		if err != nil {
			return 0, err
		}
		sizes <- ShellSize{Width: 120, Height: 40}
		fmt.Fprint(term.Out, term.Term, term.Size, <-term.Resized)
		_, err = term.Out.Write(got)
		return 42, err
	}
	var out bytes.Buffer
	code, err := throughDoor(t.Context(), t, shell, ShellIO{
		In: bytes.NewReader(all), Out: &out, Term: "xterm", Size: ShellSize{Width: 80, Height: 24}, Resized: sizes,
	})
	if err != nil || code != 42 {
		t.Errorf("exit code %d, %v; want 42", code, err)
	}
	rest, ok := bytes.CutPrefix(out.Bytes(), []byte("xterm{80 24} {120 40}"))
	if !ok || !bytes.Equal(rest, all) {
		t.Errorf("the shell saw and said %.80q… (%d bytes)", out.Bytes(), out.Len())
	}
}

func TestDoorOfAShellThatBreaks(t *testing.T) {
	shell := func(context.Context, provision.Terminal) (int, error) { return 0, errors.New("no terminal left") }
	_, err := throughDoor(t.Context(), t, shell, ShellIO{In: strings.NewReader(""), Out: io.Discard})
	wantFault(t, err, fault.Guest, "no terminal left")
}

// A person who goes away ends the shell.
func TestDoorThatIsLeft(t *testing.T) {
	ctx, leave := context.WithCancelCause(t.Context())
	left := errors.New("left")
	shell := func(ctx context.Context, _ provision.Terminal) (int, error) {
		leave(left)
		<-ctx.Done()
		return 0, ctx.Err()
	}
	nothing, _ := io.Pipe()
	if _, err := throughDoor(ctx, t, shell, ShellIO{In: nothing, Out: io.Discard}); !errors.Is(err, left) {
		t.Errorf("got %v, want the cause of the context's end", err)
	}
}

// A run that ends takes its guest and the shells in it along.
func TestDoorOfAGuestThatGoes(t *testing.T) {
	outside, inside := net.Pipe()
	go func() {
		_, _ = inside.Read(make([]byte, 100))
		inside.Close()
	}()
	nothing, _ := io.Pipe()
	_, err := enterDoor(t.Context(), outside, ShellIO{In: nothing, Out: io.Discard})
	wantFault(t, err, fault.Guest, "the guest is gone")
}

func TestNoDoor(t *testing.T) {
	h, _ := newHouse(t, fake.Script{})
	run := h.makeRun(t, "build toy")
	enter := func() error {
		_, err := ShellInto(t.Context(), h.Config, run.ID(), ShellIO{In: strings.NewReader(""), Out: io.Discard})
		return err
	}
	wantFault(t, enter(), fault.Usage, run.ID(), "it goes on, and nothing has failed")
	if err := run.Keeps("stage-rom", errors.New("no")); err != nil {
		t.Fatal(err)
	}
	wantFault(t, enter(), fault.Host, doorName)
	finish(t, run, vm.Failed, nil)
	wantFault(t, enter(), fault.Usage, run.ID(), "it is over (failed)")
}
