package credentials

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/pullgate/pullgate/policy"
)

const (
	// maxCloudAnswer bounds what a cloud's service may answer, in bytes.
	maxCloudAnswer = 64 << 10

	// cloudTimeout bounds one request to a cloud's service, and cloudDial the
	// connection to it: outside of the cloud its metadata service is an address
	// from which nothing ever comes back.
	cloudTimeout = 8 * time.Second
	cloudDial    = 3 * time.Second

	// leastLife is how long credentials live whose service does not say it.
	leastLife = 30 * time.Minute
)

// Cloud is how a cloud's services are reached. The zero value reaches them as
// this machine does, with its certificates and its proxies.
type Cloud struct {
	Transport http.RoundTripper // nil: a transport of its own
	Now       func() time.Time  // nil: time.Now
}

func (c Cloud) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

// client sends requests to a cloud's services. It follows no redirect: what it
// sends proves who the gate is.
func (c Cloud) client() *http.Client {
	transport := c.Transport
	if transport == nil {
		own := http.DefaultTransport.(*http.Transport).Clone()
		own.DialContext = (&net.Dialer{Timeout: cloudDial}).DialContext
		own.Proxy = proxyOf
		own.DisableKeepAlives = true // it is used once in a while
		transport = own
	}

	return &http.Client{
		Transport:     transport,
		Timeout:       cloudTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// proxyOf is the proxy of a request. Metadata services are asked without one:
// each machine has its own.
func proxyOf(r *http.Request) (*url.URL, error) {
	if ip, err := netip.ParseAddr(r.URL.Hostname()); err == nil && ip.IsLinkLocalUnicast() {
		return nil, nil
	}
	return http.ProxyFromEnvironment(r)
}

// readJSON reads a service's answer. No error quotes it.
func readJSON(body io.Reader, into any) error {
	text, err := io.ReadAll(io.LimitReader(body, maxCloudAnswer+1))
	if err != nil || len(text) > maxCloudAnswer || json.Unmarshal(text, into) != nil {
		return errors.New("it sent an answer that cannot be read")
	}
	return nil
}

// serviceHost is the host at which the registry is reached, as a cloud's
// patterns compare it: in lower case and without the port of https. Another port,
// and http, are no cloud's.
func (r Registry) serviceHost() (string, error) {
	whole := strings.ToLower(r.Address)
	host, port := policy.SplitPort(whole)
	if host != whole && port != "443" || r.ImpliedPort != "443" {
		return "", fmt.Errorf("%s is not asked by https on port 443", r.Address)
	}
	return host, nil
}

// isShowable reports whether a secret can be shown to a registry: it has no
// character that would end a header or a field.
func isShowable(secret string) bool {
	return secret != "" && !strings.ContainsFunc(secret, unicode.IsControl)
}

// why is what kept a service from being asked, without the URL, and without what
// a library's error may quote of an answer.
func why(err error) string {
	var path *fs.PathError
	var op *net.OpError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "it did not answer in time"
	case errors.As(err, &path):
		return path.Error()
	case errors.As(err, &op):
		return op.Error()
	}
	return ""
}
