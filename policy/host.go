package policy

import (
	"strconv"
	"strings"
)

// defaultPort is the port that a registry's name means when it has none.
const defaultPort = "443"

// FamiliarHost lower-cases a registry host and folds Docker Hub's other names
// into docker.io. A port stays: it is part of a registry's name.
func FamiliarHost(host string) string {
	host = strings.ToLower(host)
	switch host {
	case "index.docker.io", "registry-1.docker.io":
		return "docker.io"
	}
	return host
}

// ConfiguredHost finds the registry that host names among those that are
// configured, by the name that the configuration gives it. implied says of such
// a familiar name whether it is configured, and which port it means when none is
// written: that of its URL's scheme.
//
// Another port is another registry. The implied one may be written out or left
// out, and 443 may be written out always, since a name without a port means it.
func ConfiguredHost(host string, implied func(host string) (port string, ok bool)) (string, bool) {
	host = FamiliarHost(host)
	if _, ok := implied(host); ok && host != "" {
		return host, true
	}

	bare, port := SplitPort(host)
	if port == "" {
		for _, p := range []string{defaultPort, "80"} {
			if own, ok := implied(bare + ":" + p); ok && own == p {
				return bare + ":" + p, true
			}
		}
		return host, false
	}

	bare = FamiliarHost(bare)
	if own, ok := implied(bare); ok && (port == own || port == defaultPort) {
		return bare, true
	}
	return host, false
}

// ImpliedPort is the port that the scheme of a registry's URL implies.
func ImpliedPort(scheme string) string {
	if scheme == "http" {
		return "80"
	}
	return defaultPort
}

// SplitPort parts a registry host from its port, which is empty when none is
// written. An IPv6 address keeps its brackets.
func SplitPort(host string) (bare, port string) {
	i := strings.LastIndexByte(host, ':')
	if i < 0 || strings.IndexByte(host[i:], ']') >= 0 {
		return host, ""
	}
	return host[:i], host[i+1:]
}

// ValidHost reports whether host can name a registry: labels of letters, digits,
// - and _ with dots between them, or an IPv6 address in brackets, and perhaps a
// port from 1 to 65535. It is on the way of every request, hence not a regular
// expression.
func ValidHost(host string) bool {
	bare, port := SplitPort(host)
	if len(bare) != len(host) && !validPort(port) {
		return false
	}

	if inner, ok := strings.CutPrefix(bare, "["); ok {
		address, closed := strings.CutSuffix(inner, "]")
		return closed && strings.Contains(address, ":") && strings.Trim(address, "0123456789abcdefABCDEF:.") == ""
	}

	for label := range strings.SplitSeq(bare, ".") {
		if !validLabel(label) {
			return false
		}
	}
	return len(bare) <= 253
}

func validPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0 && port[0] != '0'
}

// validLabel reports whether s is one part of a host's name: it neither begins
// nor ends with a hyphen.
func validLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// configured is the name under which the configuration knows the registry host,
// or host as it is.
func (l *loader) configured(host string) string {
	if l.impliedPort == nil || host == "" {
		return host
	}

	known, _ := ConfiguredHost(host, l.impliedPort)
	return known
}

// configuredGlobs names each glob's registry as the configuration does. One with
// a wildcard in its host and the port 443 stands for both spellings.
func (l *loader) configuredGlobs(globs []Glob) []Glob {
	var list []Glob
	for _, g := range globs {
		host, path, _ := strings.Cut(g.text, "/")
		if !strings.Contains(host, "*") {
			list = append(list, newGlob(l.configured(host)+strings.TrimPrefix(g.text, host)))
			continue
		}

		list = append(list, g)
		if bare, port := SplitPort(host); port == defaultPort && l.impliedPort != nil {
			list = append(list, newGlob(bare+"/"+path))
		}
	}
	return list
}
