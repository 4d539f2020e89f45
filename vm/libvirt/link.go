package libvirt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"

	"github.com/belljar/belljar/fault"
)

// patience is how long libvirtd may take for an answer that costs it nothing.
const patience = 30 * time.Second

var (
	errSASL = errors.New("it wants a user and a password (SASL), which Belljar cannot give")
	errLost = errors.New("the connection to libvirtd broke")
)

// link is a connection to libvirtd for calls and events. Each machine has one of its own: with it the machine ends.
type link struct {
	*libvirt.Libvirt
	target target
	conn   net.Conn
}

// connect greets libvirtd.
func (t target) connect(ctx context.Context) (*link, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no answer within %s", patience))
	defer cancel()
	conn, err := t.dial(ctx)
	if err != nil {
		return nil, orCause(ctx, err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() }) // go-libvirt's own wait has no end
	lv := libvirt.NewWithDialer(dialers.NewAlreadyConnected(conn))
	err = lv.ConnectToURI(libvirt.ConnectURI(t.driver))
	if !stop() && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, t.refused(conn, err)
	}
	return &link{Libvirt: lv, target: t, conn: conn}, nil
}

// orCause is why the context ended, if it did.
func orCause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// refused is the fault of a libvirtd that was reached and did not open.
func (t target) refused(conn net.Conn, err error) error {
	if c, ok := conn.(*sshConn); ok { // what ssh said is the reason
		if why := c.why(); why != nil {
			err = why
		}
		return t.fault(err).WithRemedy("check that this works: ssh -T %s virsh -c %s version; ssh may not ask for a "+
			"password or a host key here: use a key and an agent, and connect once by hand", t.host, t.driver)
	}
	f := t.fault(readable(err))
	switch codeOf(err) {
	case libvirt.ErrAuthFailed, libvirt.ErrAuthCancelled, libvirt.ErrAuthUnavailable:
		return f.WithRemedy("add yourself to the group libvirt and log in again: sudo usermod -aG libvirt $USER")
	}
	return f.WithRemedy("check that this works: virsh -c %q version", t.uri)
}

// open makes a call that opens a stream, on a connection of its own.
func (l *link) open(ctx context.Context, procedure uint32, args body) (*stream, error) {
	conn, err := l.target.dial(ctx)
	if err != nil {
		return nil, orCause(ctx, err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	s, err := openStream(conn, l.target.driver, procedure, args)
	if !stop() && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

// alive reports whether libvirtd can still be asked.
func (l *link) alive() bool { return l.IsConnected() }

// hangUp closes the connection; libvirtd destroys the machine that was made over it, if it still runs.
func (l *link) hangUp() { l.conn.Close() }

// within makes a call for at most limit: go-libvirt's own wait has no end.
func within(limit time.Duration, call func() error) error {
	done := make(chan error, 1)
	go func() { done <- call() }()
	select {
	case err := <-done:
		return readable(err)
	case <-time.After(limit):
		return fmt.Errorf("libvirtd does not answer within %s", limit)
	}
}

// codeOf is libvirt's number for what went wrong; 0 if it is none of libvirt's errors.
func codeOf(err error) libvirt.ErrorNumber {
	if e, ok := errors.AsType[libvirt.Error](err); ok {
		return libvirt.ErrorNumber(e.Code)
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return libvirt.ErrorNumber(e.Code)
	}
	return 0
}

// readable names a lost connection: go-libvirt calls it an interrupted procedure, or an invalid argument.
func readable(err error) error {
	if errors.Is(err, libvirt.ErrInterrupted) || errors.Is(err, syscall.EINVAL) {
		return errLost
	}
	return err
}

// trouble is the fault of a libvirtd that said no, or went away.
func (l *link) trouble(op string, err error) *fault.Error {
	return fault.New(fault.Host, op, "%s: %w", l.target, readable(err))
}
