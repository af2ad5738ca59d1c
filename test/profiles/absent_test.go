package profiles_test

import (
	"net/http"
	"testing"

	"github.com/pullgate/pullgate/test/profiles"
)

// outcome is an answer of the gate's about something that it cannot read.
type outcome struct {
	status     int
	code, says string
}

var (
	notThere = outcome{http.StatusNotFound, "MANIFEST_UNKNOWN", " does not have it"}
	asksFor  = outcome{http.StatusNotFound, "NAME_UNKNOWN", " asks for credentials, and the gate has none for it"}
	refuses  = outcome{http.StatusForbidden, "DENIED", "upstream refused: "}
)

// absences is what the gate answers where there is nothing to read, for a gate
// without an account and for one whose account is good. A good account is never
// said to have been refused.
var absences = map[string]struct {
	missing, missingGuest outcome // a repository that does not exist
	private               outcome // without an account
	foreign               outcome // another account's
	tag                   outcome // that does not exist, in a repository that can be read
}{
	"Docker Hub":        {refuses, asksFor, asksFor, refuses, notThere},
	"GHCR":              {refuses, asksFor, asksFor, refuses, notThere},
	"ECR":               {notThere, asksFor, asksFor, refuses, notThere},
	"ECR Public":        {notThere, notThere, refuses, refuses, notThere},
	"Artifact Registry": {refuses, refuses, refuses, refuses, notThere},
	"gcr.io":            {refuses, refuses, refuses, refuses, notThere},
	"ACR":               {refuses, asksFor, asksFor, refuses, notThere},
	"Quay":              {refuses, asksFor, asksFor, refuses, notThere},
	"Harbor":            {refuses, asksFor, asksFor, refuses, notThere},
	"Artifactory":       {refuses, refuses, refuses, refuses, refuses},
	"GitLab":            {refuses, asksFor, asksFor, refuses, notThere},
	"Nexus":             {refuses, asksFor, asksFor, refuses, notThere},
	"zot":               {notThere, notThere, asksFor, refuses, notThere},
	"distribution":      {tag: notThere, missingGuest: notThere},
	"registry.k8s.io":   {tag: notThere, missingGuest: notThere},
	"MCR":               {tag: notThere, missingGuest: notThere},
}

func pullAbsent(t *testing.T, p profiles.Profile) {
	want, ok := absences[p.Name]
	if !ok {
		t.Fatal("the table of absences has no row")
	}

	t.Run("guest", func(t *testing.T) {
		t.Parallel()
		g := newGate(t, p, nil)
		readable := g.profile.Repository
		g.pushSigned(readable, "v1")
		g.registry.Content().PushImage(g.other("private"), "v1")
		g.registry.Add(g.other("private"), profiles.Private)

		if !p.AccountsOnly {
			g.absent(readable, "v2", want.tag)
		}
		g.absent(g.other("missing"), "v1", want.missingGuest)
		if want.private.status != 0 {
			g.absent(g.other("private"), "v1", want.private)
		}
	})

	if p.Challenge.Kind == profiles.None {
		return
	}
	t.Run("account", func(t *testing.T) {
		t.Parallel()
		g := newGate(t, p, password())
		mine := g.pushSigned(g.other("private"), "v1")
		g.registry.Add(g.other("private"), profiles.Private)
		g.registry.Content().PushImage(g.other("foreign"), "v1")
		g.registry.Add(g.other("foreign"), profiles.Foreign)

		g.absent(g.other("missing"), "v1", want.missing) // before the account has been good for anything
		g.pull(mine)
		g.absent(g.other("private"), "v2", want.tag)
		g.absent(g.other("missing"), "v2", want.missing)
		g.absent(g.other("foreign"), "v1", want.foreign)
		g.pull(mine)
	})
}

// absent checks what the gate says of a tag, and that it says the same to HEAD.
func (g *gate) absent(repository, tag string, want outcome) {
	g.t.Helper()
	g.manifest(repository, tag).refused(want.status, want.code, want.says)
	if a := g.ask(http.MethodHead, repository, "manifests/"+tag); a.status != want.status {
		g.t.Errorf("%s: %d, where GET is answered with %d", a.what, a.status, want.status)
	}
}
