package imagename

import (
	"strings"
	"testing"

	"github.com/pullgate/pullgate/cmd/pullgate/show"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"nginx":                                       "docker.io/library/nginx:latest",
		"ghcr.io/acme/app:v1":                         "ghcr.io/acme/app:v1",
		"localhost:5000/a/b":                          "localhost:5000/a/b:latest",
		"index.docker.io/library/a:b":                 "docker.io/library/a:b",
		"gate:5000/ghcr.io/acme/app:v1":               "gate:5000/ghcr.io/acme/app:v1",
		"gate.example/nexus.example:5001/acme/a:v1":   "nexus.example:5001/acme/a:v1",
		"127.0.0.1:5000/localhost:5001/a":             "localhost:5001/a:latest",
		"ghcr.io/a@sha256:" + strings.Repeat("0", 64): "ghcr.io/a@sha256:" + strings.Repeat("0", 64),
	} {
		image, err := Parse(name)
		if err != nil || image.String() != want {
			t.Errorf("%s is %s, %v; want %s", name, image, err, want)
		}
	}
}

// TestHostileName: an error repeats the name, and the terminal obeys none of it.
func TestHostileName(t *testing.T) {
	t.Parallel()
	_, err := Parse("ghcr.io/a\x1b]0;owned\a\x1b[2J\u009b31m\u202e\nx")

	if err == nil {
		t.Fatal("that is no image name")
	}
	if show.Printable(err.Error()) != err.Error() {
		t.Errorf("%q", err)
	}
}

func TestThrough(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"gate:5000/ghcr.io/acme/app:v1":   "ghcr.io/acme/app:v1",
		"gate:5000/docker.io/nginx":       "docker.io/library/nginx:latest",
		"gate.example/localhost/app":      "localhost/app:latest",
		"ghcr.io/acme/app":                "",
		"ghcr.io/acme":                    "",
		"ghcr.io/acme.example":            "", // a path of one component
		"nginx":                           "",
		"registry.example/my-project/app": "",
	} {
		image, err := Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		if inner, ok := Through(image); ok != (want != "") || ok && inner.String() != want {
			t.Errorf("%s means %s, %t; want %q", name, inner, ok, want)
		}
	}
}
