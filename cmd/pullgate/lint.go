package main

import (
	"crypto/rsa"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/pullgate/pullgate/policy"
)

// minRSABits is where NIST SP 800-57 puts keys that are to be trusted beyond 2030.
const minRSABits = 3072

// lint says what is allowed but weak: for `check --strict`.
func (l *loaded) lint() []policy.Problem {
	c := l.config
	var list []policy.Problem
	add := func(line int, format string, args ...any) { list = append(list, c.problem(line, format, args...)) }
	if l.mode == policy.Warn {
		add(c.line("mode"), "mode: warn refuses nothing")
	}
	if c.DefaultAction != "deny" {
		add(c.line("defaultAction"), "defaultAction: %s admits whatever no policy matches", c.DefaultAction)
	}
	if c.TLS.CertFile == "" && !loopback(c.Listen) {
		add(c.line("listen"), "the listener is not loopback and has no tls: whoever stands between can answer in the gate's name")
	}
	for i, u := range c.Upstreams {
		if parsed, err := url.Parse(u.URL); err == nil && parsed.Scheme == "http" && !loopback(parsed.Host) && !loopback(parsed.Host+":80") {
			add(c.line("upstreams", strconv.Itoa(i), "url"), "upstream %s is asked over plain http", u.Host)
		}
	}
	for _, p := range l.policies.Policies() {
		list = append(list, lintPolicy(p)...)
		for _, g := range p.Images {
			if host, _, _ := strings.Cut(g.String(), "/"); !strings.Contains(host, "*") && l.upstreams[host] == nil {
				file, line := where(p)
				list = append(list, policy.Problem{File: file, Line: line, Message: fmt.Sprintf("policy %q: %s never matches: %s is not among the upstreams", p.Name, g, host)})
			}
		}
	}
	return list
}

func lintPolicy(p *policy.Policy) []policy.Problem {
	var list []policy.Problem
	add := func(format string, args ...any) {
		file, line := where(p)
		list = append(list, policy.Problem{File: file, Line: line, Message: fmt.Sprintf("policy %q: ", p.Name) + fmt.Sprintf(format, args...)})
	}
	if p.Expires.IsZero() {
		switch {
		case p.Static == policy.Allow:
			add("static: allow has no end: give it expires")
		case p.Mode == policy.Warn:
			add("mode: warn has no end: give it expires")
		}
	}
	for _, g := range p.Images {
		host, path, _ := strings.Cut(g.String(), "/")
		switch {
		case p.Static == policy.Allow && len(p.Digests) == 0 && (path == "**" || host == "**"):
			add("static: allow for all of %s is no policy: name repositories", g)
		case p.Static != policy.Deny && strings.Contains(host, "*"):
			add("%s matches hosts by a pattern: whoever can register such a name is trusted like the others", g)
		}
	}
	for _, a := range p.Authorities {
		for _, k := range a.Keys {
			if public, ok := k.Public.(*rsa.PublicKey); ok && public.N.BitLen() < minRSABits {
				add("key %s is RSA with %d bits; use %d or more, or ECDSA", k.Source, public.N.BitLen(), minRSABits)
			}
		}
	}
	return list
}

// where splits a policy's place, file:line.
func where(p *policy.Policy) (file string, line int) {
	i := strings.LastIndexByte(p.Where, ':')
	if i < 0 {
		return p.Where, 0
	}
	line, err := strconv.Atoi(p.Where[i+1:])
	if err != nil {
		return p.Where, 0
	}
	return p.Where[:i], line
}
