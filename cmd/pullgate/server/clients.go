package server

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"slices"

	"github.com/pullgate/pullgate/cmd/pullgate/config"
	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy/clients"
)

// identities is what a configuration knows clients by. A reload takes over the
// parts that are made of the same: passwords that were checked, keys that were
// fetched.
type identities struct {
	who *clients.Authenticator // nil: clients are known by address alone

	passwords    part[*clients.Passwords]
	certificates part[*clients.Certificates]
	keys         part[*clients.Keys]
}

// part is something and the fingerprint of what it was made of.
type part[T any] struct {
	of   [sha256.Size]byte
	made T
}

// identify makes what knows clients, or takes it over from before, which may be
// nil.
func (l *Loaded) identify(before *Loaded) []policy.Problem {
	c := &l.Config.Clients
	var old identities
	if before != nil {
		old = before.identities
	}

	made := clients.Config{Proxies: l.proxies()}
	var problems []policy.Problem
	if c.Takes(config.Basic) && c.HtpasswdFile != "" {
		problems = append(problems, l.passwords(old.passwords)...)
		made.Passwords = l.identities.passwords.made
	}
	if c.Takes(config.MTLS) && l.Config.TLS.ClientCAFile != "" {
		problems = append(problems, l.authorities(old.certificates)...)
		made.Certificates = l.identities.certificates.made
	}
	if c.Takes(config.OIDC) {
		problems = append(problems, l.issuer(old.keys)...)
		if keys := l.identities.keys.made; keys != nil {
			made.Tokens = clients.NewTokens(clients.TokenConfig{
				Issuer:   c.OIDC.Issuer,
				Audience: c.OIDC.Audience,
				Keys:     keys,
			})
		}
	}
	l.identities.who = clients.New(made)
	return problems
}

// proxies are those whose word about a client's address counts.
func (l *Loaded) proxies() clients.Proxies {
	return clients.Proxies{
		Networks: l.Config.Clients.Proxies(),
		Protocol: l.Config.Clients.ProxyProtocol,
	}
}

// passwords reads the users. Every line that is wrong is a problem there.
func (l *Loaded) passwords(old part[*clients.Passwords]) []policy.Problem {
	file := l.Config.Path(l.Config.Clients.HtpasswdFile)
	of := fingerprint([]string{file})
	if old.made != nil && old.of == of {
		l.identities.passwords = old
		return nil
	}

	text, err := readBounded(file, clients.MaxHtpasswd)
	if err != nil {
		return []policy.Problem{l.Config.Problem("clients.htpasswdFile", "clients.htpasswdFile: %v", err)}
	}
	users, wrong := clients.ParseHtpasswd(text)
	var problems []policy.Problem
	for _, w := range wrong {
		at := policy.Position{File: file, Line: w.Line}
		problems = append(problems, at.Problem("clients.htpasswdFile: the line %s", w.Text))
	}
	if len(problems) == 0 {
		l.identities.passwords = part[*clients.Passwords]{of, clients.NewPasswords(users)}
	}
	return problems
}

// authorities reads who issues clients' certificates.
func (l *Loaded) authorities(old part[*clients.Certificates]) []policy.Problem {
	file := l.Config.Path(l.Config.TLS.ClientCAFile)
	of := fingerprint([]string{file})
	if old.made != nil && old.of == of {
		l.identities.certificates = old
		return nil
	}

	text, err := readBounded(file, clients.MaxAuthorities)
	if err != nil {
		return []policy.Problem{l.Config.Problem("tls.clientCAFile", "tls.clientCAFile: %v", err)}
	}
	issuing, err := clients.ParseAuthorities(text)
	if err != nil {
		return []policy.Problem{l.Config.Problem("tls.clientCAFile", "tls.clientCAFile %s: %v", file, err)}
	}
	l.identities.certificates = part[*clients.Certificates]{of, clients.NewCertificates(issuing)}
	return nil
}

// issuer makes the keys by which tokens count: of a file, or to be fetched.
func (l *Loaded) issuer(old part[*clients.Keys]) []policy.Problem {
	c := l.Config.Clients.OIDC
	jwks, ca := l.Config.Path(c.JWKSFile), l.Config.Path(c.CAFile)
	files := fingerprint([]string{jwks, ca})
	of := sha256.Sum256(fmt.Appendf(nil, "%q %x", c.Issuer, files))
	if old.made != nil && old.of == of {
		l.identities.keys = old
		return nil
	}

	if jwks == "" {
		client, err := issuerClient(ca)
		if err != nil {
			return []policy.Problem{l.Config.Problem("clients.oidc.caFile", "clients.oidc.caFile: %v", err)}
		}
		l.identities.keys = part[*clients.Keys]{of, clients.FetchedKeys(c.Issuer, client)}
		return nil
	}

	text, err := readBounded(jwks, clients.MaxKeySet)
	if err != nil {
		return []policy.Problem{l.Config.Problem("clients.oidc.jwksFile", "clients.oidc.jwksFile: %v", err)}
	}
	keys, err := clients.ParseKeys(text)
	if err != nil {
		return []policy.Problem{l.Config.Problem("clients.oidc.jwksFile", "clients.oidc.jwksFile %s: %v", jwks, err)}
	}
	l.identities.keys = part[*clients.Keys]{of, keys}
	return nil
}

// Weak are the users whose passwords can be guessed fast from the file.
func (l *Loaded) Weak() []policy.Problem {
	known := l.identities.passwords.made
	if known == nil {
		return nil
	}
	var list []policy.Problem
	for _, user := range known.Weak() {
		list = append(list, l.Config.Problem("clients.htpasswdFile",
			"clients.htpasswdFile: the hash of user %q costs too little: write it with htpasswd -B -C 10", user))
	}
	return list
}

// issuerClient asks the issuer. ca is a file of its authorities, empty for those of
// the system.
func issuerClient(ca string) (*http.Client, error) {
	own := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		text, err := readBounded(ca, clients.MaxAuthorities)
		if err != nil {
			return nil, err
		}
		issuing, err := clients.ParseAuthorities(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ca, err)
		}
		own.RootCAs = clients.Pool(issuing)
	}
	return &http.Client{Transport: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		TLSClientConfig:        own,
		ForceAttemptHTTP2:      true,
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConns:           1,
	}}, nil
}

// readBounded reads a regular file of at most limit bytes.
func readBounded(file string, limit int64) ([]byte, error) {
	if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() {
		var path *fs.PathError
		if errors.As(err, &path) {
			return nil, fmt.Errorf("%s: %w", file, path.Err)
		}
		return nil, fmt.Errorf("%s is no regular file", file)
	}

	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", file, limit)
	}
	return text, nil
}

// checkClientKinds reports policies for clients whose kind of name this gate's
// clients cannot show. A denial among them would deny nothing.
func (l *Loaded) checkClientKinds() []policy.Problem {
	needs := map[string]string{
		policy.UserKind:    config.Basic,
		policy.SubjectKind: config.OIDC,
	}
	var list []policy.Problem
	for _, p := range l.Policies.Policies() {
		for _, c := range p.Clients {
			if c.Kind() == "" {
				continue
			}
			way, ok := needs[c.Kind()]
			if !ok {
				way = config.MTLS
			}
			if !l.Config.Clients.Takes(way) {
				list = append(list, p.Where.Problem("policy %q: clients: %s names no client of this gate: "+
					"clients.auth does not list %s", p.Name, c, way))
			}
		}
	}
	return slices.Compact(list)
}

// fetchKeys fetches the keys of tokens until ctx ends, those of the configuration
// in force.
func (r *reloader) fetchKeys(ctx context.Context) error {
	for ctx.Err() == nil {
		running, stop := context.WithCancel(ctx)
		ended := make(chan struct{})
		keys := r.current().identities.keys.made
		go func() {
			defer close(ended)
			keys.Run(running, r.log)
		}()

		select {
		case <-ctx.Done():
		case <-r.newKeys:
		}
		stop()
		<-ended
	}
	return nil
}
