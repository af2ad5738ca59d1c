package trust

import (
	_ "embed"
	"time"

	"github.com/sigstore/sigstore-go/pkg/tuf"

	"github.com/pullgate/pullgate/policy"
)

// What the built-in roots begin with. The TUF roots are the starting points of
// chains of signatures; each refresh follows the chain to today's keys. Where
// they came from, and how to compare them: roots/README.md.
var (
	//go:embed roots/public-good.json
	publicGood []byte // the public instance's trusted root, so that a gate without a way out works too
	//go:embed roots/github-tuf-root.json
	gitHubTUF []byte
)

// definition completes a built-in root. first is what it begins with before it
// is fetched; nil: nothing.
func definition(r policy.TrustRoot) (defined policy.TrustRoot, first []byte) {
	if r.JSON != nil || r.TUF != nil {
		return r, nil
	}

	switch r.Name {
	case policy.PublicGood:
		r.TUF = &policy.TUF{
			Mirror:  tuf.DefaultMirror,
			Root:    tuf.DefaultRoot(),
			Target:  "trusted_root.json",
			Refresh: 12 * time.Hour,
		}
		return r, publicGood
	case policy.GitHubRoot:
		r.TUF = &policy.TUF{
			Mirror:  "https://tuf-repo.github.com",
			Root:    gitHubTUF,
			Target:  "trusted_root.json",
			Refresh: 12 * time.Hour,
		}
	}
	return r, nil
}
