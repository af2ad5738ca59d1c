package profiles_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pullgate/pullgate/test/hostile"
	"github.com/pullgate/pullgate/test/profiles"
)

// TestProfiles pulls from each registry as its users do.
func TestProfiles(t *testing.T) {
	t.Parallel()
	for _, p := range profiles.Table() {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			suite(t, p)
		})
	}
}

// suite is every way to pull. The parts of a group share a gate, one after the other.
func suite(t *testing.T, p profiles.Profile) {
	for name, parts := range map[string][]part{
		"pulls":     {{"cold", coldPull}, {"warm", warmPull}, {"after a restart", pullAfterRestart}},
		"by digest": {{"cold", pullByDigest}},
		"moved tag": {{"noticed", pullMovedTag}},
		"at once":   {{"cold", pullConcurrently}},
		"signatures": {
			{"none", pullUnsigned},
			{"by another key", pullSignedByAnother},
			{"bundle, referrers", pullBundleByReferrers},
			{"bundle, tag", pullBundleByTag},
		},
		"blobs":    {{"ranges", pullRanges}, {"heads", headBlobs}, {"late", pullBlobLate}},
		"listings": {{"tags", listTags}, {"referrers", listReferrers}},
		"tokens":   {{"expired", pullExpired}, {"revoked", pullRevoked}},
		"limits": {
			{"manifests", limitManifests},
			{"realm", limitRealm},
			{"referrers", limitReferrers},
			{"blobs", limitBlobs},
			{"tags", limitTags},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGate(t, p, usual(p))
			for _, part := range parts {
				t.Run(part.name, func(t *testing.T) { part.run(g.on(t), g.profile) })
			}
		})
	}

	for name, run := range map[string]func(*testing.T, profiles.Profile){
		"changed password": pullChangedPassword,
		"wrong password":   pullWrongPassword,
		"identity token":   pullIdentityToken,
		"absent":           pullAbsent,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, p)
		})
	}
}

// part is one thing that a pull may meet.
type part struct {
	name string
	run  func(*gate, profiles.Profile)
}

// usual is what people show this registry: an account where it wants one.
func usual(p profiles.Profile) *source {
	if p.AccountsOnly {
		return password()
	}
	return nil
}

// figures are the requests of a cold pull by tag of an index of one platform with
// two layers, signed under its .sig tag: the table that shows when a change costs
// or saves a request. warm is the same pull once more, by digest and then by tag.
var figures = map[string]struct{ cold, warm string }{
	"Docker Hub": {
		"realm 1, manifests 4+2 HEAD, referrers 1, blobs 4, store 4", // of a known repository: no HEAD is counted there
		"manifests 0+1 HEAD",
	},
	"GHCR": {
		"realm 1, manifests 5, referrers 1, blobs 4, store 4",
		"manifests 0+1 HEAD",
	},
	"ECR": {
		"manifests 5, referrers 1, blobs 4, store 4",
		"manifests 1+1 HEAD",
	},
	"ECR Public": {
		"realm 1, manifests 5, referrers 1, blobs 4, store 4",
		"manifests 0+1 HEAD",
	},
	"Artifact Registry": {
		"realm 1, manifests 5, referrers 1, blobs 4, store 4",
		"manifests 0+1 HEAD",
	},
	"gcr.io": {
		"front 1, realm 1, manifests 5, referrers 1, blobs 4, store 4, away 1",
		"manifests 0+1 HEAD",
	},
	"ACR": {
		"realm 1, manifests 5, referrers 1, blobs 4, store 4",
		"manifests 0+1 HEAD",
	},
	"Quay": {
		"realm 1, manifests 5, referrers 1, blobs 4, store 4",
		"manifests 0+1 HEAD",
	},
	"Harbor": {
		"realm 1, manifests 5, referrers 1, blobs 4",
		"manifests 0+1 HEAD",
	},
	"Artifactory": {
		"realm 1, manifests 5, referrers 1, blobs 4",
		"manifests 0+1 HEAD",
	},
	"GitLab": {
		"realm 1, manifests 5, referrers 1, blobs 4, store 4",
		"manifests 0+1 HEAD",
	},
	"Nexus": {
		"manifests 5, referrers 1, blobs 4",
		"manifests 0+1 HEAD",
	},
	"zot": {
		"realm 1, manifests 5, referrers 1, blobs 4",
		"manifests 0+1 HEAD",
	},
	"distribution": {
		"manifests 4, referrers 1, blobs 4, store 4",
		"manifests 0+1 HEAD",
	},
	"registry.k8s.io": {
		"manifests 10, referrers 2, blobs 4, store 4",
		"manifests 0+2 HEAD",
	},
	"MCR": {
		"manifests 4, referrers 1, blobs 4, store 4",
		"manifests 0+1 HEAD",
	},
}

func coldPull(g *gate, p profiles.Profile) {
	g.settled("a cold pull", figures[p.Name].cold, func(tag string) {
		i := g.pushSigned(p.Repository, tag)
		g.clock.advance(2 * time.Hour) // no token is left
		g.registry.Forget()
		g.pull(i)
	})
}

func warmPull(g *gate, p profiles.Profile) {
	i := g.pushSigned(p.Repository, "warm")
	g.pull(i)

	g.settled("a digest that is known", nothing, func(string) {
		g.registry.Forget()
		g.manifest(i.repository, i.digest.String()).served(i.index)
		g.manifest(i.repository, i.child.Digest.String()).served(i.child.Manifest)
	})
	g.settled("a tag that is known", figures[p.Name].warm, func(string) {
		g.registry.Forget()
		g.head(i)
	})
}

// nothing is the figure of what costs no request.
const nothing = "nothing"

// settled checks a figure. What memory was given is there a moment later, and costs
// requests until then, so that on a busy machine only the next attempt may come out
// as wanted. Without a figure one attempt is enough.
func (g *gate) settled(what, want string, attempt func(tag string)) {
	g.t.Helper()
	got := ""
	for n := range 20 {
		attempt("attempt-" + strconv.Itoa(n))
		if got = g.requests(); got == want || want == "" {
			return
		}
	}
	g.t.Errorf("%s asks %s; want %s", what, got, want)
}

func pullAfterRestart(g *gate, p profiles.Profile) {
	i := g.pushSigned(p.Repository, "v3")
	g.pull(i)
	g.restart()

	for d, b := range i.blobs { // which a runtime may ask for first
		g.ask(http.MethodGet, i.repository, "blobs/"+d.String()).served(b)
	}
	g.pull(i)
}

func pullByDigest(g *gate, p profiles.Profile) {
	g.pullDigest(g.pushSigned(p.Repository, "v1"))
}

// requests counts what the registry was asked since the last Forget.
func (g *gate) requests() string {
	var list []string
	for _, e := range []profiles.Endpoint{
		profiles.FrontEndpoint,
		profiles.RealmEndpoint,
		profiles.ManifestsEndpoint,
		profiles.ReferrersEndpoint,
		profiles.BlobsEndpoint,
		profiles.StoreEndpoint,
		profiles.AwayEndpoint,
	} {
		heads, gets := 0, 0
		for _, q := range g.registry.At(e) {
			if q.Method == http.MethodHead {
				heads++
			} else {
				gets++
			}
		}
		if heads > 0 {
			list = append(list, fmt.Sprintf("%s %d+%d HEAD", e, gets, heads))
		} else if gets > 0 {
			list = append(list, fmt.Sprintf("%s %d", e, gets))
		}
	}
	if len(list) == 0 {
		return nothing
	}
	return strings.Join(list, ", ")
}

// pullUnsigned: the refusal says what was looked for, and where a registry does not
// show whether there is something, that too. No part of the image leaves.
func pullUnsigned(g *gate, p profiles.Profile) {
	i := g.push(p.Repository, "none")

	for _, reference := range []string{i.tag, i.digest.String()} {
		message := g.manifest(i.repository, reference).refused(http.StatusForbidden, "DENIED",
			`refused by policy "prod": no signature found (looked for: key "release")`)
		withheld := strings.Contains(message, "the registry answered 403 (Forbidden) for the .sig tag")
		if want := p.Absent.Tag.Status == http.StatusForbidden; withheld != want {
			g.t.Errorf("%s", message)
		}
		if a := g.ask(http.MethodHead, i.repository, "manifests/"+reference); a.status != http.StatusForbidden {
			g.t.Errorf("%s: %d", a.what, a.status)
		}
	}
	g.refusesParts(i)
}

// refusesParts checks that nothing of an image leaves.
func (g *gate) refusesParts(i image) {
	g.t.Helper()
	parts := []string{"manifests/" + i.child.Digest.String(), "blobs/" + i.digest.String()}
	for d := range i.blobs {
		parts = append(parts, "blobs/"+d.String())
	}
	for _, part := range parts {
		if a := g.ask(http.MethodGet, i.repository, part); a.status != http.StatusForbidden {
			g.t.Errorf("%s: %d %.200s", a.what, a.status, a.body)
		}
	}
}

func pullSignedByAnother(g *gate, p profiles.Profile) {
	i := g.push(p.Repository, "other")
	other, _ := newPolicy(g.t, p.Host)
	g.registry.Content().Sign(i.repository, i.digest, other)

	g.manifest(i.repository, i.tag).refused(http.StatusForbidden, "DENIED",
		"1 signature found, none counts: it was made by another key, or altered")
	g.refusesParts(i)
}

// pullBundleByReferrers: where the registry has no referrers API, nothing that it
// answers instead is taken for a signature.
func pullBundleByReferrers(g *gate, p profiles.Profile) {
	i := g.push(p.Repository, "attached")
	for n := range 4 { // more than one page, where a registry has small ones
		g.registry.Content().PushArtifact(i.repository, "", hostile.Artifact{
			Type:    "application/vnd.acme.report",
			Layers:  []hostile.Layer{{MediaType: "text/plain", Body: []byte(strconv.Itoa(n))}},
			Subject: i.digest,
		})
	}
	g.attach(i)

	if p.Referrers.Available() {
		g.pull(i)
		return
	}
	g.manifest(i.repository, i.tag).refused(http.StatusForbidden, "DENIED", "no signature found")
}

func pullBundleByTag(g *gate, p profiles.Profile) {
	i := g.push(p.Repository, "listed")
	g.list(i)

	g.pull(i)
}

// pullMovedTag: however a registry answers HEAD, a tag that has moved is noticed at
// once, and what it stands for now is judged by itself.
func pullMovedTag(g *gate, p profiles.Profile) {
	before := g.pushSigned(p.Repository, "v1")
	g.pull(before)

	unsigned := g.push(p.Repository, "v1")
	for _, method := range []string{http.MethodHead, http.MethodGet} {
		if a := g.ask(method, p.Repository, "manifests/v1"); a.status != http.StatusForbidden {
			g.t.Errorf("%s: %d, though the tag has moved", a.what, a.status)
		}
	}
	g.refusesParts(unsigned)
	g.pull(g.pushSigned(p.Repository, "v1"))
}
