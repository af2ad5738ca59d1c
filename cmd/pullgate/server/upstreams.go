package server

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"os"
	"reflect"
	"strconv"
	"strings"

	"github.com/pullgate/pullgate/cmd/pullgate/config"
	"github.com/pullgate/pullgate/cmd/pullgate/version"
	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy/upstream"
)

// upstreamKey is what an upstream is made of. While it stays the same, a reload
// keeps the upstream.
type upstreamKey struct {
	config config.Upstream
	ca     [sha256.Size]byte // of its caFile; credentials are read again by the upstream itself
}

func (l *Loaded) upstreamKey(u config.Upstream) upstreamKey {
	return upstreamKey{config: u, ca: fingerprint([]string{l.Config.Path(u.CAFile)})}
}

func (k upstreamKey) equal(other upstreamKey) bool { return reflect.DeepEqual(k, other) }

// connect makes the client of every configured registry, or takes it over from
// before, which may be nil.
func (l *Loaded) connect(before *Loaded) []policy.Problem {
	l.upstreams = map[string]*upstream.Upstream{}
	l.upstreamKeys = map[string]upstreamKey{}

	var list []policy.Problem
	for i, u := range l.Config.Upstreams {
		at := "upstreams." + strconv.Itoa(i)
		host := policy.FamiliarHost(u.Host)

		key := l.upstreamKey(u)
		l.upstreamKeys[host] = key

		roots, ok := l.roots(u)
		if !ok {
			list = append(list, l.Config.Problem(at, "caFile %s holds no readable PEM certificate", u.CAFile))
			continue
		}

		if before != nil && before.upstreams[host] != nil && before.upstreamKeys[host].equal(key) {
			l.upstreams[host] = before.upstreams[host]
			continue
		}

		made, err := upstream.New(l.upstreamConfig(u, roots))
		if err != nil {
			list = append(list, l.Config.Problem(at, "upstream %s: %v", u.Host, err))
			continue
		}
		l.upstreams[host] = made
	}
	return list
}

// roots reads an upstream's caFile; nil without one.
func (l *Loaded) roots(u config.Upstream) (pool *x509.CertPool, ok bool) {
	if u.CAFile == "" {
		return nil, true
	}

	pem, err := os.ReadFile(l.Config.Path(u.CAFile))
	if err != nil {
		return nil, false
	}
	pool = x509.NewCertPool()
	return pool, pool.AppendCertsFromPEM(pem)
}

func (l *Loaded) upstreamConfig(u config.Upstream, roots *x509.CertPool) upstream.Config {
	c := upstream.Config{
		Host:      policy.FamiliarHost(u.Host),
		UserAgent: "pullgate/" + version.String(),
		Auth:      l.auth(u.Auth),
		Tracer:    l.telemetry.Tracer,
		Meter:     l.telemetry.Meter,
	}
	if u.URL != "" {
		c.URL, _ = url.Parse(u.URL) // config has checked it
	}
	if roots != nil {
		c.TLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return c
}

// auth turns the configuration's words into an upstream's credentials.
func (l *Loaded) auth(a config.Auth) upstream.Auth {
	switch a.Type {
	case "basic":
		return upstream.Auth{
			Type:         upstream.Basic,
			Username:     a.Username,
			PasswordFile: l.Config.Path(a.PasswordFile),
			Realms:       a.Realms,
		}
	case "dockerConfig":
		return upstream.Auth{Type: upstream.DockerConfig, File: l.Config.Path(a.File), Realms: a.Realms}
	}
	return upstream.Auth{Realms: a.Realms}
}

// hostnames maps Host headers to the upstream they select.
func (l *Loaded) hostnames() map[string]string {
	names := map[string]string{}
	for _, u := range l.Config.Upstreams {
		for _, n := range u.Hostnames {
			names[strings.ToLower(n)] = policy.FamiliarHost(u.Host)
		}
	}
	return names
}
