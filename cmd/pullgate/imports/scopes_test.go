package imports

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/policy"
)

// TestScopes makes policy.json files and asks of images what
// containers-policy.json(5) says of them: the most specific scope decides.
func TestScopes(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	digests := []string{"sha256:" + strings.Repeat("a", 64), "sha256:" + strings.Repeat("b", 64)}
	names := []string{
		"r.b",
		"r.b/x",
		"r.b/x/y",
		"r.b:5000",
		"r.b:5000/x",
		"q.r.b",
		"q.r.b/x",
		"*.b",
		"*.r.b",
		"docker.io",
		"docker.io/x",
		"docker.io/library/x",
		"docker.io/library",
		"docker.io/x/y",
		"*.io",
		"localhost",
		"r.b/x@" + digests[0],
		"r.b/x/y@" + digests[1],
		"docker.io/library/x@" + digests[0],
		"",
	}
	images := []string{
		"r.b/x",
		"r.b/x/y",
		"r.b/x/y/z",
		"r.b/xy",
		"r.b:5000/x",
		"r.b:5000/z",
		"r.b:6000/x",
		"q.r.b/x",
		"q.r.b:1/x",
		"p.q.r.b:1/x/y",
		"docker.io/library/x",
		"docker.io/x/y",
		"docker.io/x/y/z",
		"docker.io/library/x/y",
		"localhost/x",
		"localhost:1/x",
		"other.example/x",
	}
	kind := map[bool]string{true: `[{"type": "insecureAcceptAnything"}]`, false: `[{"type": "reject"}]`}
	for range 1500 {
		accepts := map[string]bool{}
		var scopes []string
		for _, i := range rng.Perm(len(names))[:rng.IntN(8)] {
			accepts[names[i]] = rng.IntN(2) == 0
			scopes = append(scopes, fmt.Sprintf("%q: %s", names[i], kind[accepts[names[i]]]))
		}

		otherwise := rng.IntN(2) == 0
		file := fmt.Sprintf(
			`{"default": %s, "transports": {"docker": {%s}}}`,
			kind[otherwise],
			strings.Join(scopes, ",\n"),
		)
		result := Convert("policy.json", []File{{"policy.json", []byte(file)}})
		for _, problem := range result.Problems {
			t.Fatalf("%s\n%s", problem, file)
		}

		set := load(t, result.YAML)
		for _, image := range images {
			repository, err := policy.ParseRepository(image)
			if err != nil {
				t.Fatal(err)
			}
			for _, digest := range digests {
				want := otherwise
				for _, scope := range append([]string{image + "@" + digest}, scopesOf(image)...) {
					if accept, ok := accepts[scope]; ok {
						want = accept
						break
					}
				}
				p := set.For(repository, digest, policy.Client{})
				if got := p.Static == policy.Allow; got != want {
					t.Fatalf("%s@%s is admitted: %t, %s says %t\n%s", image, digest, got, file, want, result.YAML)
				}
			}
		}
	}
}

// scopesOf are the scopes that an image is looked for under, the most specific
// first: its repository, what is above it, its host; wildcards for the domains
// above its host, whatever its port; everything.
func scopesOf(image string) []string {
	var all []string
	host, path, _ := strings.Cut(image, "/")
	segments := strings.Split(path, "/")
	for n := len(segments); n > 0; n-- {
		all = append(all, host+"/"+strings.Join(segments[:n], "/"))
	}

	all = append(all, host)
	bare, _, _ := strings.Cut(host, ":")
	for {
		_, above, ok := strings.Cut(bare, ".")
		if !ok {
			return append(all, "")
		}
		all = append(all, "*."+above)
		bare = above
	}
}

// What matches no image there must not admit one here.
func TestDeadScopes(t *testing.T) {
	for _, scope := range []string{
		"r.example/a*",
		"r.example/*",
		"*.example:5000",
		"*.example/a",
		"r.*",
		"*",
		"**",
		"index.docker.io/acme",
		"registry-1.docker.io",
		"R.example/acme",
		"docker.io/x@sha256:" + strings.Repeat("a", 64),
		"r.example/",
		"r.example//a",
	} {
		t.Run(scope, func(t *testing.T) {
			name, err := json.Marshal(scope)
			if err != nil {
				t.Fatal(err)
			}

			file := `{"default": [{"type": "reject"}], "transports": {"docker": {` + string(name) +
				`: [{"type": "insecureAcceptAnything"}]}}}`
			if result := Convert("policy.json", []File{{"policy.json", []byte(file)}}); len(result.Problems) == 0 {
				t.Errorf("was carried:\n%s", result.YAML)
			}
		})
	}

	t.Run("null", func(t *testing.T) {
		file := `{"default": [{"type": "insecureAcceptAnything"}], "transports": {"docker": {"r.example": null}}}`
		if result := Convert("policy.json", []File{{"policy.json", []byte(file)}}); len(result.Problems) == 0 {
			t.Errorf("was carried:\n%s", result.YAML)
		}
	})
}
