package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// proxyKey is the context key of the mirror's own proxy.
type proxyKey struct{}

func withProxy(ctx context.Context, proxy string) context.Context {
	return context.WithValue(ctx, proxyKey{}, proxy)
}

// chooseProxy lets the mirror's proxy, from apt's configuration, win over the environment's.
func chooseProxy(req *http.Request) (*url.URL, error) {
	switch p, _ := req.Context().Value(proxyKey{}).(string); p {
	case "":
		return http.ProxyFromEnvironment(req)
	case "DIRECT":
		return nil, nil
	default:
		return url.Parse(p)
	}
}

func newClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		Proxy:                 chooseProxy,
		DialContext:           (&net.Dialer{Timeout: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   15 * time.Second,
		MaxIdleConnsPerHost:   8,
		IdleConnTimeout:       30 * time.Second,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true,
		ForceAttemptHTTP2:     true,
	}}
}

var errStalled = errors.New("stalled")

// watchdog cancels a request when no byte came for a while.
type watchdog struct {
	t     *time.Timer
	stall time.Duration
}

func newWatchdog(stall time.Duration, cancel context.CancelCauseFunc) *watchdog {
	bark := func() { cancel(fmt.Errorf("%w: no byte for %v", errStalled, stall)) }
	return &watchdog{time.AfterFunc(stall, bark), stall}
}

func (w *watchdog) fed()  { w.t.Reset(w.stall) }
func (w *watchdog) stop() { w.t.Stop() }

// watched is a response body under a watchdog.
type watched struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	w      *watchdog
}

func (b *watched) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.w.fed()
	}
	if cause := context.Cause(b.ctx); err != nil && errors.Is(cause, errStalled) {
		err = cause
	}
	return n, err
}

func (b *watched) Close() error {
	b.w.stop()
	b.cancel(nil)
	return b.ReadCloser.Close()
}
