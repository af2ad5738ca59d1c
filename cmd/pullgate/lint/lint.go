// Package lint says what a configuration allows but is hardly meant: what has no
// effect, for `check`, and what is weak, for `check --strict`. What is wrong is
// said by the rooms that read it.
package lint

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/pullgate/pullgate/cmd/pullgate/config"
	"github.com/pullgate/pullgate/policy"
)

// Check returns what is weak in a configuration and the policies loaded from it,
// neither of which has a problem, and what Idle returns.
func Check(c *config.Config, set *policy.Set) []policy.Problem {
	list := checkGate(c)

	for _, p := range set.Policies() {
		list = append(list, checkPolicy(p)...)
	}
	return append(list, Idle(c, set)...)
}

// Idle returns what has no effect: a list without policies, and patterns for
// registries that are not asked. It is a mistake more often than not, and weakens
// nothing.
func Idle(c *config.Config, set *policy.Set) []policy.Problem {
	var list []policy.Problem
	own := 0
	for _, p := range set.Policies() {
		if p.Name != policy.CanaryName {
			own++
		}
		list = append(list, checkHosts(c, p)...)
	}

	if own == 0 {
		list = append(list, c.Problem(
			"policies",
			"there are no policies: defaultAction (%s) decides about every image",
			c.DefaultAction,
		))
	}
	return list
}

func checkGate(c *config.Config) []policy.Problem {
	var list []policy.Problem
	add := func(path, format string, args ...any) { list = append(list, c.Problem(path, format, args...)) }

	if c.GateMode() == policy.Warn {
		add("mode", "mode: warn refuses nothing")
	}
	if c.DefaultAction != "deny" {
		add("defaultAction", "defaultAction: %s admits whatever no policy matches", c.DefaultAction)
	}
	if c.TLS.CertFile == "" && !config.IsLoopback(c.Listen) {
		add("listen", "the listener is not loopback and has no tls: anyone in between can answer in the gate's name")
	}

	for i, u := range c.Upstreams {
		if slices.ContainsFunc(u.Addresses(), isPlain) {
			add("upstreams."+strconv.Itoa(i)+".url", "upstream %s is asked over plain http", u.Host)
		}
	}
	return list
}

// isPlain reports whether a URL speaks plain http beyond this machine.
func isPlain(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme == "http" &&
		!config.IsLoopback(u.Host) &&
		!config.IsLoopback(u.Host+":80")
}

// checkHosts reports patterns for registries that are not asked.
func checkHosts(c *config.Config, p *policy.Policy) []policy.Problem {
	var never []policy.Glob
	for _, g := range p.Images {
		host, _, _ := strings.Cut(g.String(), "/")
		if _, asked := c.UpstreamHost(host); !strings.Contains(host, "*") && !asked {
			never = append(never, g)
		}
	}

	if len(never) > 0 && len(never) == len(p.Images) {
		const nothing = "policy %q never decides: none of its registries is among the upstreams (%s)"
		return []policy.Problem{p.Where.Problem(nothing, p.Name, hostsOf(never))}
	}
	var list []policy.Problem
	for _, g := range never {
		const text = "policy %q: %s never matches: %s is not among the upstreams"
		list = append(list, p.Where.Problem(text, p.Name, g, hostsOf([]policy.Glob{g})))
	}
	return list
}

// hostsOf are the registries of patterns, each once.
func hostsOf(globs []policy.Glob) string {
	var hosts []string
	for _, g := range globs {
		host, _, _ := strings.Cut(g.String(), "/")
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return strings.Join(hosts, ", ")
}

// weaknesses collects what is weak in one policy.
type weaknesses struct {
	policy *policy.Policy
	list   []policy.Problem
}

func (w *weaknesses) add(format string, args ...any) {
	w.list = append(w.list, w.policy.Where.Problem("policy %q: %s", w.policy.Name, fmt.Sprintf(format, args...)))
}

func checkPolicy(p *policy.Policy) []policy.Problem {
	w := &weaknesses{policy: p}

	w.end()
	w.images()
	for _, a := range p.Authorities {
		w.keys(a)
		w.identities(a)
		w.pki(a)
	}
	return w.list
}

func (w *weaknesses) end() {
	if !w.policy.Expires.IsZero() {
		return
	}

	switch {
	case w.policy.Static == policy.Allow:
		w.add("static: allow has no end: give it expires")
	case w.policy.Mode == policy.Warn:
		w.add("mode: warn has no end: give it expires")
	}
}

func (w *weaknesses) images() {
	p := w.policy
	for _, g := range p.Images {
		host, path, _ := strings.Cut(g.String(), "/")

		switch {
		case p.Static == policy.Allow && len(p.Digests) == 0 && (path == "**" || host == "**"):
			w.add("static: allow for all of %s is no policy: name repositories", g)
		case p.Static != policy.Deny && strings.Contains(host, "*"):
			w.add("%s matches hosts by a pattern: anyone who can register such a name is trusted like the others", g)
		}
	}
}
