package server

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/url"
	"os"
	"reflect"
	"strconv"
	"strings"

	"github.com/pullgate/pullgate/cmd/pullgate/config"
	"github.com/pullgate/pullgate/cmd/pullgate/version"
	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy/upstream"
	"github.com/pullgate/pullgate/proxy/upstream/credentials"
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
	l.upstreams = &upstream.Registries{}
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

		if before != nil && before.upstreamKeys[host].equal(key) && l.upstreams.Take(host, before.upstreams) {
			continue
		}

		if err := l.addUpstream(u, roots); err != nil {
			if errors.As(err, new(*authError)) {
				at += ".auth"
			}
			list = append(list, l.Config.Problem(at, "upstream %s: %v", u.Host, err))
		}
	}
	return list
}

// addUpstream makes what an entry of the configuration stands for.
func (l *Loaded) addUpstream(u config.Upstream, roots *x509.CertPool) error {
	if u.IsWildcard() {
		return l.addWildcard(u, roots)
	}

	var mirrors []*upstream.Upstream
	for _, address := range u.Addresses() {
		made, err := l.newUpstream(u, policy.FamiliarHost(u.Host), address, roots)
		if err != nil {
			return err
		}
		mirrors = append(mirrors, made)
	}

	if len(mirrors) == 1 {
		l.upstreams.Add(policy.FamiliarHost(u.Host), mirrors[0])
		return nil
	}
	l.upstreams.Add(policy.FamiliarHost(u.Host), upstream.NewMirrors(mirrors))
	return nil
}

// addWildcard makes what opens the registries that a wildcard stands for, and
// tries it at once with a made-up host, which is not asked: what is wrong with an
// entry is found out when it is loaded.
func (l *Loaded) addWildcard(u config.Upstream, roots *x509.CertPool) error {
	pattern, err := policy.ParseHostPattern(u.Host)
	if err != nil {
		return nil // config has said so
	}
	open := func(host string) (*upstream.Upstream, error) {
		return l.newUpstream(u, host, u.URL, roots)
	}
	first, err := open(sampleOf(pattern.String(), u.Auth.Type))
	if err != nil {
		return err
	}

	first.Close()
	l.upstreams.AddWildcard(upstream.NewWildcard(pattern, first.ImpliedPort(), open))
	return nil
}

// sampleOf is a host that a wildcard stands for. Those of clouds have labels of a
// form, by which their credentials know them.
func sampleOf(pattern, authType string) string {
	labels := map[string][]string{"ecr": {"123456789012", "us-east-1"}, "gcr": {"us-docker"}}[authType]
	for _, label := range labels {
		pattern = strings.Replace(pattern, "*", label, 1)
	}
	return strings.ReplaceAll(pattern, "*", "x")
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

// newUpstream makes the client of one host, at one address of its entry u; an
// empty one is the host's own.
func (l *Loaded) newUpstream(
	u config.Upstream,
	host, address string,
	roots *x509.CertPool,
) (*upstream.Upstream, error) {
	c := upstream.Config{
		Host:        host,
		UserAgent:   "pullgate/" + version.String(),
		Via:         l.via,
		Tracer:      l.telemetry.Tracer,
		Meter:       l.telemetry.Meter,
		Label:       policy.FamiliarHost(u.Host),
		Stranger:    u.IsWildcard() && address == "",
		Redirect:    u.Blobs == "redirect",
		Stores:      u.Stores,
		Concurrency: u.Concurrency,
	}
	if address != "" {
		c.URL, _ = url.Parse(address) // config has checked it
	}
	if roots != nil {
		c.TLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}

	var err error
	if c.Auth, err = l.auth(u.SecretFor(address), c); err != nil {
		return nil, err
	}
	return upstream.New(c)
}

// authError is an error about an upstream's credentials.
type authError struct{ error }

// auth makes what the upstream c is shown from its part of the configuration.
// What is wrong with the credentials is an error here, at load time.
func (l *Loaded) auth(a config.Auth, c upstream.Config) (upstream.Auth, error) {
	address, err := c.Address()
	if err != nil {
		return upstream.Auth{}, err
	}

	registry := credentials.Registry{
		Host:        c.Host,
		Address:     address.Host,
		Path:        c.Prefix(),
		ImpliedPort: policy.ImpliedPort(address.Scheme),
	}
	source, err := l.source(a, registry)
	if err != nil {
		return upstream.Auth{}, &authError{err}
	}

	return upstream.Auth{Source: source, Realms: a.Realms}, nil
}

// source is where the credentials of one registry come from.
func (l *Loaded) source(a config.Auth, registry credentials.Registry) (credentials.Source, error) {
	switch a.Type {
	case "basic":
		return credentials.NewBasic(a.Username, l.Config.Path(a.PasswordFile))
	case "dockerConfig":
		return credentials.NewDockerConfig(l.Config.Path(a.File), registry)
	case "token":
		return credentials.NewToken(l.Config.Path(a.File))
	case "ecr":
		return credentials.NewECR(registry, a.RoleARN, credentials.Cloud{})
	case "gcr":
		return credentials.NewGCR(registry, l.Config.Path(a.File), credentials.Cloud{})
	case "acr":
		return credentials.NewACR(registry, a.ClientID, credentials.Cloud{})
	case "credentialProvider":
		return credentials.NewPlugin(registry, credentials.PluginConfig{
			Command: a.Command,
			Args:    a.Args,
			Env:     a.Env,
			Timeout: a.Timeout,
		})
	case "passthrough":
		return credentials.NewPassthrough(), nil
	}
	return credentials.Anonymous{}, nil
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
