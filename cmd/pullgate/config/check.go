package config

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pullgate/pullgate/cmd/pullgate/imagename"
	"github.com/pullgate/pullgate/policy"
)

// writeAddress is what to do about an address to listen on.
const writeAddress = "write host:port, e.g. 127.0.0.1:5000"

const (
	maxPort          = 65535
	maxVerdicts      = 100_000_000 // entries; each takes some hundred bytes
	maxDecisionFiles = 1000
	maxHelp          = 300 // bytes: clients print it after every refusal

	maxMinRate = 1 << 20 // bytes per second

	leastMessage = 64 << 10 // bytes of one manifest or payload
	leastTotal   = 1 << 20  // bytes of everything that is read or kept together
)

// hostname is a host's name, without a port.
var hostname = regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$`)

// checks collects what is wrong with a configuration beyond types.
type checks struct {
	*Config
	unread   []string // keys whose values could not be read
	problems []policy.Problem
}

// check returns everything that is wrong beyond types. unread are the keys whose
// values could not be read: what is wrong with them has been said.
func (c *Config) check(unread []string) []policy.Problem {
	k := &checks{Config: c, unread: unread}

	k.gate()
	k.clients()
	k.log()
	k.decisions()
	k.state()
	k.positive()
	k.sizes()
	k.upstreams()
	k.intercept()

	return k.problems
}

// add reports a problem, unless the value at path could not be read anyway.
func (k *checks) add(path, format string, args ...any) {
	for _, u := range k.unread {
		if path == u || strings.HasPrefix(path, u+".") {
			return
		}
	}
	k.problems = append(k.problems, k.Problem(path, format, args...))
}

func (k *checks) oneOf(path, got string, allowed ...string) {
	if !slices.Contains(allowed, got) {
		k.add(path, "%s is %q; it must be one of: %s", path, got, strings.Join(allowed, ", "))
	}
}

func (k *checks) address(path, addr string) {
	_, port, err := net.SplitHostPort(addr)
	if n, nerr := strconv.Atoi(port); err == nil && nerr == nil && (n < 0 || n > maxPort) {
		err = fmt.Errorf("a port is at most %d", maxPort)
	}
	if err != nil {
		k.add(path, "%s is %q; %s", path, addr, writeAddress)
	}
}

func (k *checks) gate() {
	k.oneOf("mode", k.Mode, "enforce", "warn")
	k.oneOf("defaultAction", k.DefaultAction, "deny", "warn", "allow")
	k.address("listen", k.Listen)
	k.address("admin.listen", k.Admin.Listen)
	for i, name := range k.Admin.Hostnames {
		if _, err := netip.ParseAddr(name); err != nil && !hostname.MatchString(name) {
			k.add("admin.hostnames."+strconv.Itoa(i),
				"admin.hostnames: %.100q is no host: write a name or an address, without scheme and port", name)
		}
	}

	if k.Canary == "" {
		return
	}
	image, err := imagename.Parse(k.Canary)
	image = k.Image(image)
	_, known := k.UpstreamHost(image.Host)
	switch {
	case err != nil:
		k.add("canary", "canary: %v", err)
	case !known:
		k.add("canary", "canary %s is on %s, which is not among the upstreams", k.Canary, image.Host)
	}
}

func (k *checks) log() {
	k.oneOf("log.level", k.Log.Level, "debug", "info", "warn", "error")
	k.oneOf("log.format", k.Log.Format, "text", "json")
}

func (k *checks) decisions() {
	d := k.Decisions

	k.oneOf("decisions.to", d.To, "file", "stdout", "otlp", "none")
	if d.File != "" && d.To != "file" {
		k.add("decisions.file", "decisions.file is set, and decisions.to is %s: remove one of them", d.To)
	}
	if d.Keep > maxDecisionFiles {
		k.add("decisions.keep", "decisions.keep must be at most %d", maxDecisionFiles)
	}
}

func (k *checks) state() {
	for _, file := range []struct{ key, name string }{
		{"databasePasswordFile", k.DatabasePasswordFile},
		{"databaseNamespaceFile", k.DatabaseNamespaceFile},
	} {
		if file.name != "" && k.Database == "" {
			k.add(file.key, "%s is set, and database is not: remove it, or name the database", file.key)
		}
	}
	if k.Verdicts.MaxEntries > maxVerdicts {
		k.add("verdicts.maxEntries", "verdicts.maxEntries must be at most %d", maxVerdicts)
	}
	if k.Verdicts.StaleIfError < 0 {
		k.add("verdicts.staleIfError", "verdicts.staleIfError must not be negative")
	}
	if k.Manifests.TagTTL < 0 {
		k.add("manifests.tagTTL", "manifests.tagTTL must not be negative")
	}
	if k.Manifests.Recheck <= 0 {
		k.add("manifests.recheck", "manifests.recheck must be positive")
	}
}

// positive checks what would stop the gate, or bound nothing, at zero.
func (k *checks) positive() {
	numbers := []struct {
		path  string
		value int64
	}{
		{"limits.descriptors", int64(k.Limits.Descriptors)},
		{"limits.signatures", int64(k.Limits.Signatures)},
		{"limits.verdictsInFlight", int64(k.Limits.VerdictsInFlight)},
		{"limits.verifyTimeout", int64(k.Limits.VerifyTimeout)},
		{"limits.clientMisses", int64(k.Limits.ClientMisses)},
		{"limits.blobStreams", int64(k.Limits.BlobStreams)},
		{"limits.clientBlobStreams", int64(k.Limits.ClientBlobStreams)},
		{"verdicts.ttl", int64(k.Verdicts.TTL)},
		{"verdicts.denyTTL", int64(k.Verdicts.DenyTTL)},
		{"verdicts.maxEntries", k.Verdicts.MaxEntries},
		{"drain", int64(k.Drain)},
		{"decisions.keep", int64(k.Decisions.Keep)},
	}

	if k.Limits.BlobMinRate > maxMinRate {
		k.add("limits.blobMinRate", "limits.blobMinRate must be at most %d MiB, or it would cut off real clients",
			maxMinRate>>20)
	}
	for _, n := range numbers {
		if n.value <= 0 {
			k.add(n.path, "%s must be more than zero", n.path)
		}
	}
}

// sizes checks what would be too small for anything to fit.
func (k *checks) sizes() {
	for _, s := range []struct {
		path         string
		value, least Size
	}{
		{"limits.manifestBytes", k.Limits.ManifestBytes, leastMessage},
		{"limits.payloadBytes", k.Limits.PayloadBytes, leastMessage},
		{"limits.verdictBytes", k.Limits.VerdictBytes, leastTotal},
		{"manifests.maxBytes", k.Manifests.MaxBytes, leastTotal},
		{"state.maxBytes", k.State.MaxBytes, leastTotal},
		{"decisions.maxBytes", k.Decisions.MaxBytes, leastTotal},
	} {
		if s.value < s.least {
			k.add(s.path, "%s must be at least %d KiB", s.path, s.least>>10)
		}
	}
}

// isPrintable reports whether every character of s can stand in a line.
func isPrintable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}
