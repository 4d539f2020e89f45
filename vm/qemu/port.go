package qemu

import (
	"context"
	"net"
	"sync/atomic"
)

// port is a socket on which the host waits for QEMU, once.
type port struct {
	listener net.Listener
	conn     chan net.Conn // one connection, then closed
	received atomic.Int64  // bytes from the guest
}

// counted counts what is read.
type counted struct {
	net.Conn
	received *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.received.Add(int64(n))
	return n, err
}

// listen binds the socket before QEMU starts: from the guest's first look on, the port is 'open'.
func listen(ctx context.Context, path string) (*port, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	p := &port{listener: l, conn: make(chan net.Conn, 1)}
	go func() {
		defer close(p.conn)
		if c, err := l.Accept(); err == nil {
			p.conn <- c
		}
		l.Close()
	}()
	return p, nil
}

// close ends the wait, and a connection that nobody took.
func (p *port) close() {
	p.listener.Close()
	if c, ok := <-p.conn; ok {
		c.Close()
	}
}
