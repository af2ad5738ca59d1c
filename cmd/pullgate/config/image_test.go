package config

import (
	"testing"

	"github.com/pullgate/pullgate/cmd/pullgate/imagename"
)

// TestImageName: what clients pull by means what the gate makes of it, and what
// names a registry is left alone.
func TestImageName(t *testing.T) {
	t.Parallel()
	c, problems := Read(writeConfig(t, `listen: 127.0.0.1:5000
defaultUpstream: docker.io
upstreams:
  - host: docker.io
  - {host: ghcr.io, hostnames: [ghcr.gate.example]}
  - {host: nexus.example:5001}
  - {host: harbor.example}
`), nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}

	for name, want := range map[string]string{
		"ghcr.io/acme/app:v1":                           "ghcr.io/acme/app:v1",
		"ghcr.io:443/acme/app:v1":                       "ghcr.io/acme/app:v1",
		"gate:5000/ghcr.io/acme/app:v1":                 "ghcr.io/acme/app:v1",
		"gate.example/index.docker.io/nginx":            "docker.io/library/nginx:latest",
		"gate:5000/nexus.example:5001/app":              "nexus.example:5001/app:latest",
		"ghcr.gate.example/acme/app":                    "ghcr.io/acme/app:latest",
		"ghcr.gate.example:5000/acme/app":               "ghcr.io/acme/app:latest",
		"127.0.0.1:5000/nginx":                          "docker.io/library/nginx:latest",
		"localhost:5000/acme/app":                       "docker.io/acme/app:latest",
		"127.0.0.1:5000/ghcr.io/acme/app":               "ghcr.io/acme/app:latest",
		"harbor.example/ghcr.io/acme/app":               "harbor.example/ghcr.io/acme/app:latest", // a project of it
		"gate:5000/quay.io/acme/app":                    "gate:5000/quay.io/acme/app:latest",      // no upstream
		"gate:5000/acme/app":                            "gate:5000/acme/app:latest",
		"127.0.0.1:5001/acme/app":                       "127.0.0.1:5001/acme/app:latest",
		"registry.example/ghcr.io.example/app@sha256:x": "",
	} {
		image, err := imagename.Parse(name)
		if err != nil {
			if want != "" {
				t.Error(err)
			}
			continue
		}
		if got := c.Image(image).String(); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}
