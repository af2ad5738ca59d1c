package profiles_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/pullgate/pullgate/test/hostile"
	"github.com/pullgate/pullgate/test/profiles"
)

// manyTags is more than any registry lists at once when it is not asked for more.
const manyTags = 1005

// listTags: every tag is listed once, in pages that lead through the gate, however
// the registry links from one to the next.
func listTags(g *gate, p profiles.Profile) {
	i := g.pushSigned(p.Repository, "v1")
	want := []string{"v1"}
	for n := range manyTags {
		tag := fmt.Sprintf("t%04d", n)
		g.registry.Content().PushRaw(p.Repository, tag, hostile.IndexType, i.index)
		want = append(want, tag)
	}
	want = append(want, hostile.SignatureTag(i.digest))
	if p.Tags.Digests {
		want = append(want, "sha256:"+profiles.Zeros)
	}
	slices.Sort(want)

	for _, n := range []string{"", "?n=400", "?n=1000", "?n=5000"} {
		got := g.tags("/v2/" + p.Host + "/" + p.Repository + "/tags/list" + n)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			g.t.Errorf("%q: %d tags; want %d", n, len(got), len(want))
		}
	}
}

// tags follows the gate's links from one page to the next.
func (g *gate) tags(next string) []string {
	g.t.Helper()
	var all []string
	for range 100 {
		a := g.askPath(http.MethodGet, next)
		var page struct{ Tags []string }
		if err := json.Unmarshal(a.body, &page); err != nil || a.status != http.StatusOK {
			g.t.Fatalf("%s: %d %v %.300s", next, a.status, err, a.body)
		}
		all = append(all, page.Tags...)

		link := a.header.Get("Link")
		if link == "" {
			return all
		}
		target, ok := strings.CutSuffix(link, `>; rel="next"`)
		if !ok || !strings.HasPrefix(target, "</v2/") {
			g.t.Fatalf("Link %q", link)
		}
		next = target[1:]
	}
	g.t.Fatalf("the pages do not end: %d tags", len(all))
	return nil
}

// listReferrers: where there is an API, what it lists is listed, filtered or not;
// elsewhere the gate says that there is none.
func listReferrers(g *gate, p profiles.Profile) {
	i := g.push(p.Repository, "attached")
	attached := g.attach(i).String()
	part := "referrers/" + i.digest.String()

	a := g.ask(http.MethodGet, i.repository, part)
	if !p.Referrers.Available() {
		a.refused(http.StatusNotFound, "UNSUPPORTED", "the upstream has no referrers API")
		return
	}
	if a.status != http.StatusOK || !strings.Contains(string(a.body), attached) {
		g.t.Errorf("%s: %d %s", a.what, a.status, a.body)
	}

	for artifactType, listed := range map[string]bool{bundleType: !p.Referrers.Untyped, "application/other": false} {
		a = g.ask(http.MethodGet, i.repository, part+"?artifactType="+url.QueryEscape(artifactType))
		if a.status != http.StatusOK || strings.Contains(string(a.body), attached) != listed ||
			a.header.Get("OCI-Filters-Applied") != "artifactType" {
			g.t.Errorf("%s: %d %v %s", a.what, a.status, a.header, a.body)
		}
	}

	unknown := "referrers/sha256:" + profiles.Zeros
	a = g.ask(http.MethodGet, i.repository, unknown)
	if p.Referrers.UnknownSubject != 0 {
		a.refused(http.StatusNotFound, "UNSUPPORTED", "the upstream has no referrers API")
	} else if a.status != http.StatusOK {
		g.t.Errorf("%s: %d %s", a.what, a.status, a.body)
	}
}
