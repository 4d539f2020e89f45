package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// proxyKey is the context key of the mirror's own proxy.
type proxyKey struct{}

func withProxy(ctx context.Context, proxy string) context.Context {
	return context.WithValue(ctx, proxyKey{}, proxy)
}

// direct, in place of a proxy's URL, is no proxy: apt's word.
const direct = "DIRECT"

// chooseProxy lets the configuration's proxy win, then the mirror's own, from apt's configuration, then the
// environment's (http_proxy, https_proxy, no_proxy). no_proxy holds for the configuration's too.
func chooseProxy(configured string, noProxy func() string) func(*http.Request) (*url.URL, error) {
	return func(req *http.Request) (*url.URL, error) {
		p, _ := req.Context().Value(proxyKey{}).(string)
		if configured != "" {
			p = configured
			if exempt(req.URL, noProxy()) {
				p = direct
			}
		}
		switch p {
		case "":
			return http.ProxyFromEnvironment(req)
		case direct:
			return nil, nil
		default:
			return url.Parse(p)
		}
	}
}

func noProxyFromEnvironment() string { return cmp.Or(os.Getenv("no_proxy"), os.Getenv("NO_PROXY")) }

// exempt reports whether no_proxy, or being this very machine, keeps a URL from the proxy: '*', a host, a domain with
// all below it, an address, a network in CIDR form, each perhaps with a port; as in net/http.
func exempt(u *url.URL, noProxy string) bool {
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	ip := net.ParseIP(host)
	if host == "localhost" || ip.IsLoopback() {
		return true
	}
	for _, rule := range strings.FieldsFunc(noProxy, func(r rune) bool { return r == ',' || r == ' ' }) {
		rule = strings.ToLower(rule)
		if rule == "*" {
			return true
		}
		if _, network, err := net.ParseCIDR(rule); err == nil {
			if ip != nil && network.Contains(ip) {
				return true
			}
			continue
		}
		if h, port, err := net.SplitHostPort(rule); err == nil {
			if port != cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme]) {
				continue
			}
			rule = h
		}
		domain := strings.TrimPrefix(strings.TrimPrefix(rule, "*"), ".")
		if host == domain && !strings.HasPrefix(rule, ".") && !strings.HasPrefix(rule, "*") ||
			strings.HasSuffix(host, "."+domain) {
			return true
		}
	}
	return false
}

func newClient(proxy string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		Proxy:                 chooseProxy(proxy, noProxyFromEnvironment),
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
