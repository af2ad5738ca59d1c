package imagename

import (
	"strings"

	"github.com/pullgate/pullgate/policy"
)

// Through returns the image that a name through a gate means, if image is one: of
// gate.example:5000/ghcr.io/acme/app it is ghcr.io/acme/app. Only who knows that
// there is a gate can tell it from a path that holds a dot.
func Through(image policy.Image) (policy.Image, bool) {
	first, _, nested := strings.Cut(image.Path, "/")
	if !nested || !namesHost(first) {
		return policy.Image{}, false
	}

	repo, err := policy.ParseRepository(image.Path)
	image.Repository = repo
	return image, err == nil
}

// namesHost reports whether a segment of a path is a registry's host, as the gate
// sees it.
func namesHost(segment string) bool {
	return strings.ContainsAny(segment, ".:") || segment == "localhost"
}

// pastGate removes the host of a gate from a name whose path begins with a host
// and its port, gate.example:5000/nexus.example:5001/app. No path may hold a
// colon, so that the name means nothing else.
func pastGate(name string) string {
	gate, path, _ := strings.Cut(name, "/")
	first, _, nested := strings.Cut(path, "/")
	if nested && namesHost(gate) && strings.Contains(first, ":") {
		return path
	}
	return name
}
