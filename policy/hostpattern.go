package policy

import (
	"errors"
	"slices"
	"strings"
)

// HostPattern is a registry host some of whose labels are *, each of which stands
// for any one label: *.pkg.dev, *.dkr.ecr.*.amazonaws.com. A port belongs to it as
// it belongs to a host: without one, it matches names without one.
type HostPattern struct {
	text   string
	labels []string
	port   string
}

// leastLiteral is how many labels at a pattern's end are written out. What stands
// for a whole top-level domain would make the gate an open proxy.
const leastLiteral = 2

// ParseHostPattern reads a host with at least one label *.
func ParseHostPattern(text string) (HostPattern, error) {
	text = strings.ToLower(text)
	bare, port := SplitPort(text)
	labels := strings.Split(bare, ".")

	isPart := func(label string) bool { return label != "*" && strings.Contains(label, "*") }
	switch {
	case !ValidHost(strings.ReplaceAll(text, "*", "x")) || strings.Contains(port, "*") ||
		slices.ContainsFunc(labels, isPart):
		return HostPattern{}, errors.New("it is no host in which * stands for whole labels")
	case !slices.Contains(labels, "*"):
		return HostPattern{}, errors.New("it has no label *")
	case len(labels) < leastLiteral || slices.Contains(labels[len(labels)-leastLiteral:], "*"):
		return HostPattern{}, errors.New("its last two labels must be written out")
	}
	return HostPattern{text: text, labels: labels, port: port}, nil
}

// String is the pattern as it was written, in lower case.
func (p HostPattern) String() string { return p.text }

// Wildcards is how many labels of p stand for any.
func (p HostPattern) Wildcards() int { return strings.Count(p.text, "*") }

// Suffix is what is written out behind the last *, without the port.
func (p HostPattern) Suffix() string {
	last := 0
	for i, label := range p.labels {
		if label == "*" {
			last = i + 1
		}
	}
	return strings.Join(p.labels[last:], ".")
}

// Match reports whether host is one that p stands for. Of host it believes
// nothing: it compares without case, and what is no valid host matches nothing.
func (p HostPattern) Match(host string) bool {
	if !ValidHost(host) { // also because letters outside ASCII have such within it in lower case
		return false
	}
	bare, port := SplitPort(strings.ToLower(host))
	labels := strings.Split(bare, ".")
	if port != p.port || len(p.labels) == 0 {
		return false
	}

	if len(labels) != len(p.labels) {
		return false
	}
	for i, label := range p.labels {
		if label != "*" && label != labels[i] {
			return false
		}
	}
	return true
}
