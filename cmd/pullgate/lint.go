package main

import (
	"crypto/rsa"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

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
		add(
			c.line("listen"),
			"the listener is not loopback and has no tls: whoever stands between can answer in the gate's name",
		)
	}
	for i, u := range c.Upstreams {
		if parsed, err := url.Parse(
			u.URL,
		); err == nil && parsed.Scheme == "http" && !loopback(parsed.Host) &&
			!loopback(parsed.Host+":80") {
			add(c.line("upstreams", strconv.Itoa(i), "url"), "upstream %s is asked over plain http", u.Host)
		}
	}
	for _, p := range l.policies.Policies() {
		list = append(list, lintPolicy(p)...)
		for _, g := range p.Images {
			if host, _, _ := strings.Cut(g.String(), "/"); !strings.Contains(host, "*") && l.upstreams[host] == nil {
				list = append(list, p.Where.Problem(
					"policy %q: %s never matches: %s is not among the upstreams",
					p.Name,
					g,
					host,
				))
			}
		}
	}
	return list
}

func lintPolicy(p *policy.Policy) []policy.Problem {
	var list []policy.Problem
	add := func(format string, args ...any) {
		list = append(list, p.Where.Problem("policy %q: %s", p.Name, fmt.Sprintf(format, args...)))
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
		for i := range a.Identities {
			for _, weakness := range lintIdentity(&a.Identities[i]) {
				add("authority %q: %s", a.Name, weakness)
			}
		}
		if a.PKI != nil && broad(a.PKI.Subject) {
			add("authority %q: subject %s admits everybody the PKI ever issued a certificate to", a.Name, a.PKI.Subject)
		}
		if a.PKI != nil && !a.PKI.RequireTimestamp {
			for _, c := range a.PKI.Roots {
				if left := time.Until(c.NotAfter); left < soonOver {
					add(
						"authority %q: the root %q ends on %s, and with time: current all it signed with it",
						a.Name,
						c.Subject.CommonName,
						c.NotAfter.Format(time.DateOnly),
					)
				}
			}
		}
	}
	return list
}

// soonOver is when the end of a certificate is worth a word.
const soonOver = 30 * 24 * time.Hour

func lintIdentity(i *policy.Identity) []string {
	var list []string
	if broad(i.Issuer) {
		list = append(list, fmt.Sprintf("issuer %s admits identity providers that anybody can run", i.Issuer))
	}
	if g := i.GitHub; g != nil {
		if g.Workflow == "" {
			list = append(
				list,
				"github: names no workflow: every workflow of the "+ownerOrRepository(
					g,
				)+" may sign, pull request builds included",
			)
		}
		return list
	}
	narrow := false
	for _, c := range i.Claims {
		narrow = narrow || !broad(c)
	}
	if !narrow && (i.Subject.IsZero() || broad(i.Subject)) {
		list = append(list, fmt.Sprintf("identity %s admits everybody with an account at the issuer", i))
	} else if !narrow && i.Subject.IsExpression() && loose(i.Subject) {
		list = append(
			list,
			fmt.Sprintf(
				"subject %s matches addresses on any host: write the host out, with \\. for its dots",
				i.Subject,
			),
		)
	}
	return list
}

func ownerOrRepository(g *policy.GitHub) string {
	if g.Repository != "" {
		return "repository"
	}
	return "owner's repositories"
}

// broad reports whether a pattern matches texts that nobody can have meant
// together.
func broad(p policy.Pattern) bool {
	return p.IsExpression() && p.Match("https://evil.example/x/.github/workflows/y.yml@refs/heads/z") &&
		p.Match("someone@evil.example")
}

// loose reports whether a pattern leaves the host to whoever signs.
func loose(p policy.Pattern) bool {
	return p.Match("https://evil.example/acme/app/.github/workflows/release.yml@refs/heads/main") ||
		p.Match("someone@evil.example")
}
