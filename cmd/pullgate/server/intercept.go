package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy/clients"
	"github.com/pullgate/pullgate/proxy/intercept"
)

// intercepting is what a configuration intercepts by. A reload takes over an
// authority that is made of the same files, with the leaves it has made.
type intercepting struct {
	rules     *intercept.Rules // nil: nothing is intercepted
	authority part[*intercept.Authority]
}

// nameOwnRequests has requests to upstreams carry what they are known by when they
// come back to where connections are intercepted. It stays the same as long as the
// process runs, for the upstreams that a reload takes over.
func (l *Loaded) nameOwnRequests(before *Loaded) {
	switch {
	case !l.Config.Intercept.On():
	case before != nil && before.via != "":
		l.via = before.via
	default:
		l.via = "1.1 pullgate-" + strings.ToLower(rand.Text())
	}
}

// interception makes the rules, or takes the authority over from before, which may
// be nil.
func (l *Loaded) interception(before *Loaded) []policy.Problem {
	c := l.Config.Intercept
	if !c.On() || c.CACertFile == "" || c.CAKeyFile == "" {
		return nil
	}

	var old part[*intercept.Authority]
	if before != nil {
		old = before.intercepting.authority
	}
	problems := l.tunnels()
	if p := l.interceptAuthority(old); p != nil {
		return append(problems, *p)
	}
	for i, u := range l.Config.Upstreams {
		at := "upstreams." + strconv.Itoa(i) + ".host"
		names, err := u.InterceptedNames()
		if err != nil {
			problems = append(problems, l.Config.Problem(at, "intercept: upstream %s: %v", u.Host, err))
			continue
		}
		for _, name := range names {
			if !l.intercepting.authority.made.Allows(name) {
				problems = append(problems, l.Config.Problem("intercept.caCertFile",
					"intercept.caCertFile %s may not issue for %s, of upstream %s: renew it with `pullgate ca --renew`",
					c.CACertFile, name, u.Host))
			}
		}
	}
	if len(problems) > 0 {
		return problems
	}

	rules := l.intercepting.rules
	rules.Authority = l.intercepting.authority.made
	rules.Upstream = func(host string) (string, bool) { return policy.ConfiguredHost(host, l.upstreams.ImpliedPort) }
	if l.Config.Clients.Identifies() {
		rules.Authenticate = l.identities.who.Authenticate
	}
	return nil
}

// tunnels reads the hosts that are reached past the gate. None may be a registry
// that the gate guards.
func (l *Loaded) tunnels() (problems []policy.Problem) {
	l.intercepting.rules = &intercept.Rules{}
	for i, text := range l.Config.Intercept.Tunnel {
		at := "intercept.tunnel." + strconv.Itoa(i)
		tunnel, err := intercept.ParseTunnel(text)
		if err != nil {
			problems = append(problems, l.Config.Problem(at, "intercept.tunnel %q: %v", text, err))
			continue
		}
		for _, u := range l.Config.Upstreams {
			names, err := u.InterceptedNames()
			if err != nil || u.IsWildcard() {
				names = nil
			}
			for _, name := range append(names, policy.FamiliarHost(u.Host)) {
				if tunnel.Overlaps(name) {
					problems = append(problems, l.Config.Problem(at,
						"intercept.tunnel %q would lead past the gate to the upstream %s: take one of them out",
						text, u.Host))
					break
				}
			}
		}
		l.intercepting.rules.Tunnels = append(l.intercepting.rules.Tunnels, tunnel)
	}
	return problems
}

// interceptAuthority reads the certificate authority; nil when all is well.
func (l *Loaded) interceptAuthority(old part[*intercept.Authority]) *policy.Problem {
	certFile, keyFile := l.Config.Path(l.Config.Intercept.CACertFile), l.Config.Path(l.Config.Intercept.CAKeyFile)
	problem := func(key, format string, args ...any) *policy.Problem {
		p := l.Config.Problem("intercept."+key, "intercept."+key+" "+format, args...)
		return &p
	}
	of := fingerprint([]string{certFile, keyFile})
	if old.made != nil && old.of == of && time.Now().Before(old.made.End()) {
		l.intercepting.authority = old
		return nil
	}

	text, err := readBounded(certFile, maxAuthority)
	if err != nil {
		return problem("caCertFile", "%v", err)
	}
	bundle, err := intercept.ParseCertificates(text)
	if err != nil {
		return problem("caCertFile", "%s: %v", certFile, err)
	}
	if info, err := os.Stat(keyFile); err == nil && info.Mode().Perm()&0o077 != 0 {
		return problem("caKeyFile", "%s can be read by others (mode %04o): chmod 600, and make another with "+
			"`pullgate ca` if they may have read it", keyFile, info.Mode().Perm())
	}
	text, err = readBounded(keyFile, maxAuthority)
	if err != nil {
		return problem("caKeyFile", "%v", err)
	}
	key, err := intercept.ParseKey(text)
	if err != nil {
		return problem("caKeyFile", "%s: %v", keyFile, err)
	}
	made, err := intercept.NewAuthority(bundle, key, time.Now)
	if err != nil {
		return problem("caCertFile", "%s: %v", certFile, err)
	}
	l.intercepting.authority = part[*intercept.Authority]{of: of, made: made}
	return nil
}

const maxAuthority = 256 << 10 // bytes of a file

// interceptor opens the ports on which connections are intercepted, and has them
// answered until ctx ends. Without any it does nothing.
func (r *reloader) interceptor(ctx context.Context, group *errgroup.Group, pulls, admin net.Listener) error {
	c := r.current().Config.Intercept
	if !c.On() {
		return nil
	}

	own := ports{}
	own.add(pulls.Addr(), admin.Addr())
	server, err := intercept.New(intercept.Config{
		Rules: r.interceptRules,
		Corridor: func(w http.ResponseWriter, req *http.Request, host string, client *policy.Client) {
			r.handler.ServeIntercepted(w, req, host, client)
		},
		Own:   own.has,
		Via:   r.current().via,
		Log:   r.log,
		Meter: r.telemetry.Meter,
	})
	if err != nil {
		return err
	}

	var open net.ListenConfig
	opened := map[string]net.Listener{}
	for _, address := range []string{c.Listen, c.TLSListen} {
		if address == "" {
			continue
		}
		l, err := open.Listen(ctx, "tcp", address)
		if err != nil {
			for _, other := range opened {
				err = errors.Join(err, other.Close())
			}
			return fmt.Errorf("listen for interception: %w", err)
		}
		opened[address] = l
		own.add(l.Addr())
	}
	serve := func(address string, answer func(net.Listener) error) {
		if l, ok := opened[address]; ok {
			l = clients.Listen(l, func() clients.Proxies { return r.current().proxies() })
			group.Go(func() error { return answer(l) })
		}
	}
	serve(c.Listen, server.ServeProxy)
	serve(c.TLSListen, server.ServeTLS)
	group.Go(server.ServeTaken)
	group.Go(func() error {
		<-ctx.Done()
		drained, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.current().Config.Drain)
		defer cancel()
		_ = server.Shutdown(drained) // what is left was cut
		return nil
	})
	r.log.Info("pullgate intercepts", "listen", c.Listen, "tls_listen", c.TLSListen, "tunnels", len(c.Tunnel))
	return nil
}

// interceptRules are those in force. Where a reload took interception out, the ports
// stay until the next start, and lead nowhere.
func (r *reloader) interceptRules() *intercept.Rules {
	if rules := r.current().intercepting.rules; rules != nil && rules.Upstream != nil {
		return rules
	}
	return &intercept.Rules{Upstream: func(string) (string, bool) { return "", false }}
}

// ports are those that the gate itself listens on.
type ports map[string]bool

func (p ports) add(addresses ...net.Addr) {
	for _, a := range addresses {
		if tcp, ok := a.(*net.TCPAddr); ok {
			p[strconv.Itoa(tcp.Port)] = true
		}
	}
}

// has reports whether an address is one of this machine, with such a port.
func (p ports) has(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	if !ok || !p[strconv.Itoa(tcp.Port)] {
		return false
	}
	if tcp.IP.IsLoopback() || tcp.IP.IsUnspecified() {
		return true
	}
	mine, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	for _, m := range mine {
		if n, ok := m.(*net.IPNet); ok && n.IP.Equal(tcp.IP) {
			return true
		}
	}
	return false
}
