package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/belljar/belljar/fault"
)

// Shell boots the guest of a spec's first stage, with the sources in place, and gives a person a shell in it.
// Nothing of what happens there is kept.
func Shell(ctx context.Context, cfg Config, o BuildOptions, in io.Reader, out io.Writer, sio ShellIO) (err error) {
	defer func() { err = diskFull(err, cfg.Dir) }()
	h, p, release, err := begin(cfg, o.Spec, o.Lock, o.Guest)
	if err != nil {
		return err
	}
	defer release()
	j, err := h.newJob(ctx, p, o, time.Now())
	if err != nil {
		return err
	}
	if j.run, err = h.newRun(ctx, "shell "+p.loaded.Spec.Name); err != nil {
		return err
	}
	h.followPhases(j.run)
	defer func() { err = errors.Join(err, j.finish(ctx, err)) }()
	if err := j.prepare(ctx); err != nil {
		return err
	}
	stage := inOrder(p.loaded.Spec.Stages)[0] // needs nothing: it comes first
	dir, err := j.run.Dir("shell")
	if err != nil {
		return err
	}
	disks := stageDisks(dir)
	defer func() { err = errors.Join(err, disks.remove()) }()
	var g *booted
	if _, err = j.phase(PhaseBoot, stage.Name, "a guest to look around in", func() (string, error) {
		g, err = j.bootStage(ctx, &stage, dir, disks)
		return "the agent answers", err
	}); err != nil {
		return err
	}
	defer func() { err = j.damagedImage(ctx, g.corrupted(errors.Join(err, g.Close()))) }()
	err = g.Prepare(g.ctx, j.guestStage(&stage))
	if err == nil {
		err = g.Shell(g.ctx, in, out, sio.Term, sio.Width, sio.Height)
	}
	if err != nil {
		return g.explain(err)
	}
	return nil
}

// shellSocket is where a kept guest is entered: one connection is one shell. Its first line is a ShellIO in JSON.
const shellSocket = "shell.sock"

// keepGuest leaves a failed stage's guest running until ctx ends, and lets shells in.
func (j *job) keepGuest(ctx context.Context, g *booted, failure error) {
	l, err := listenIn(j.run.Path(), shellSocket)
	if err != nil {
		text := "cannot let a shell into the kept guest: " + err.Error()
		j.report(Event{Kind: Warning, Phase: PhaseStage, Text: text})
		return
	}
	defer l.Close()
	stop := context.AfterFunc(g.ctx, func() { l.Close() })
	defer stop()
	j.report(Event{Kind: Warning, Phase: PhaseStage, Text: fmt.Sprintf(
		"%v. The guest is kept: enter it with 'belljar shell %s', end it with Ctrl-C here", failure, j.run.ID())})
	for {
		c, err := l.Accept()
		if err != nil {
			return // the guest or the user ended it
		}
		go func() {
			defer c.Close()
			if err := serveShell(g, c); err != nil {
				fmt.Fprintf(c, "belljar: %v\r\n", err)
			}
		}()
	}
}

func serveShell(g *booted, c net.Conn) error {
	line, err := readLine(c)
	if err != nil {
		return fmt.Errorf("shell request: %w", err)
	}
	var sio ShellIO
	if err := json.Unmarshal(line, &sio); err != nil {
		return fmt.Errorf("shell request: %w", err)
	}
	return g.Shell(g.ctx, c, c, sio.Term, sio.Width, sio.Height)
}

// maxRequest bounds the line with which a shell is asked for.
const maxRequest = 4 << 10

// readLine takes a line and not a byte more: what follows is typed into the shell.
func readLine(r io.Reader) ([]byte, error) {
	var line []byte
	one := make([]byte, 1)
	for len(line) < maxRequest {
		if _, err := io.ReadFull(r, one); err != nil {
			return nil, err
		}
		if one[0] == '\n' {
			return line, nil
		}
		line = append(line, one[0])
	}
	return nil, fmt.Errorf("no line within %d bytes", maxRequest)
}

// ShellInto gives a person a shell in a guest that a run has kept.
func ShellInto(ctx context.Context, cfg Config, id string, in io.Reader, out io.Writer, sio ShellIO) error {
	h, err := open(cfg)
	if err != nil {
		return err
	}
	path, err := h.runPath(id)
	if err != nil {
		return err
	}
	c, err := dialIn(ctx, path, shellSocket)
	if err != nil {
		return fault.New(fault.Usage, "enter run "+filepath.Base(path), "it keeps no guest: %w", err).
			WithRemedy("only a run that failed under 'belljar build --keep', and has not been ended, keeps one; " +
				"see: belljar runs")
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	if err := json.NewEncoder(c).Encode(sio); err != nil {
		return fault.New(fault.Host, "enter run", "%w", err)
	}
	go func() { _, _ = io.Copy(c, in) }() // ends with the connection or the terminal
	_, err = io.Copy(out, c)
	return errors.Join(err, ctx.Err())
}

// A Unix socket's address holds 108 bytes (unix(7)), which a run's path may pass. /proc/self/fd/N/NAME does not.

func listenIn(dir, name string) (net.Listener, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: "/proc/self/fd/" + strconv.Itoa(int(d.Fd())) + "/" + name})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // the address is gone with d; the run folder is swept
	return l, nil
}

func dialIn(ctx context.Context, dir, name string) (net.Conn, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return new(net.Dialer).DialContext(ctx, "unix", "/proc/self/fd/"+strconv.Itoa(int(d.Fd()))+"/"+name)
}
