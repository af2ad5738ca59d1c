package profiles_test

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pullgate/pullgate/test/profiles"
)

// wait is what a limited registry asks for.
const wait = time.Minute

// limit makes an endpoint answer 429 in every way there is to ask for a pause, one
// after the other, and ends each before the next.
func (g *gate) limit(at profiles.Endpoint, limited func(g *gate, form, retryAfter string)) {
	g.t.Helper()
	for _, form := range []string{"none", "seconds", "date"} {
		retryAfter := map[string]string{
			"none":    "",
			"seconds": "60",
			"date":    g.clock.now().Add(wait).UTC().Format(http.TimeFormat),
		}[form]
		g.t.Run(form, func(t *testing.T) {
			g.registry.Forget()
			g.registry.Limit(at, retryAfter)
			limited(g.on(t), form, retryAfter)
		})
		g.registry.Unlimit()
		g.clock.advance(wait + time.Second)
	}
}

// limited checks the gate's 429: the registry's Retry-After is kept, and counts down
// while the gate obeys it.
func (a answer) limited(form, retryAfter string) {
	a.t.Helper()
	a.refused(http.StatusTooManyRequests, "TOOMANYREQUESTS", " limits how often it may be asked")
	said := a.header.Get("Retry-After")
	if said == retryAfter {
		return
	}
	if seconds, err := strconv.Atoi(said); form == "none" || err != nil || seconds < 1 || seconds > 61 {
		a.t.Errorf("%s: Retry-After %q, the registry said %q", a.what, said, retryAfter)
	}
}

// herd asks for many images at once, which the registry must not notice while it
// has asked to be left alone.
func (g *gate) herd(form, retryAfter string, images []image, at profiles.Endpoint) {
	g.t.Helper()
	g.registry.Forget()
	var all sync.WaitGroup
	for range 4 {
		for _, i := range images {
			all.Go(func() { g.manifest(i.repository, i.tag).limited(form, retryAfter) })
		}
	}
	all.Wait()

	n := len(g.registry.At(at))
	if form != "none" && n > 0 {
		g.t.Errorf("%s was asked %d times during the pause", at, n)
	}
	if most := 4 * len(images); n > most { // each client's question is one, and none is repeated
		g.t.Errorf("%s was asked %d times by %d clients", at, n, most)
	}
}

// images are several that the gate has not been asked for yet, each signed.
func (g *gate) images(prefix string) []image {
	g.t.Helper()
	var list []image
	for n := range 4 {
		list = append(list, g.pushSigned(g.profile.Repository, prefix+"-"+strconv.Itoa(n)))
	}
	return list
}

func limitManifests(g *gate, _ profiles.Profile) {
	g.limit(profiles.ManifestsEndpoint, func(g *gate, form, retryAfter string) {
		images := g.images("manifests-" + form)
		g.manifest(images[0].repository, images[0].tag).limited(form, retryAfter)
		g.herd(form, retryAfter, images[1:], profiles.ManifestsEndpoint)

		g.registry.Unlimit()
		if form != "none" {
			g.manifest(images[0].repository, images[0].tag).limited(form, retryAfter) // not yet
			g.clock.advance(wait + time.Second)
		}
		g.pull(images[0])
	})
}

func limitRealm(g *gate, p profiles.Profile) {
	if !wantsToken(p) {
		return
	}
	g.limit(profiles.RealmEndpoint, func(g *gate, form, retryAfter string) {
		images := g.images("realm-" + form)
		g.registry.Rotate() // else the token of before is good enough
		g.manifest(images[0].repository, images[0].tag).limited(form, retryAfter)
		g.herd(form, retryAfter, images[1:], profiles.RealmEndpoint)

		g.registry.Unlimit()
		g.clock.advance(wait + time.Second)
		g.pull(images[0])
	})
}

// limitReferrers: Azure limits referrers alone, twenty times as hard as the rest. A
// signature under its tag is found all the same; where there is none, the gate cannot
// tell, and never says that there is no signature.
func limitReferrers(g *gate, p profiles.Profile) {
	g.limit(profiles.ReferrersEndpoint, func(g *gate, form, _ string) {
		signed := g.pushSigned(p.Repository, "signed-"+form)
		unsigned := g.push(p.Repository, "unsigned-"+form)
		attached := g.push(p.Repository, "attached-"+form)
		g.attach(attached)

		g.pull(signed)
		for _, i := range []image{unsigned, attached} {
			a := g.manifest(p.Repository, i.tag)
			a.refused(http.StatusServiceUnavailable, "UNAVAILABLE", "could not verify")
			if a.header.Get("Retry-After") == "" {
				g.t.Errorf("%s: 503 without Retry-After", a.what)
			}
		}
		g.pull(signed) // nothing else pauses

		g.registry.Unlimit()
		g.clock.advance(wait + time.Second)
		g.manifest(p.Repository, unsigned.tag).refused(http.StatusForbidden, "DENIED", "no signature found")
		if p.Referrers.Available() {
			g.pull(attached)
		}
	})
}

// limitBlobs: a payload that cannot be fetched leaves the verdict open; a layer that
// cannot be fetched is 429. The limit of a store is not the registry's.
func limitBlobs(g *gate, p profiles.Profile) {
	at := profiles.BlobsEndpoint
	if p.Blobs.Status != 0 {
		at = profiles.StoreEndpoint
	}
	onItsHost := p.Blobs.Status == 0 || strings.HasPrefix(p.Blobs.To, "/")
	admitted := g.pushSigned(p.Repository, "admitted")
	g.pull(admitted)

	g.limit(at, func(g *gate, form, retryAfter string) {
		fresh := g.pushSigned(p.Repository, "fresh-"+form)
		for d := range admitted.blobs {
			g.ask(http.MethodGet, p.Repository, "blobs/"+d.String()).limited(form, retryAfter)
		}
		a := g.manifest(p.Repository, fresh.tag)
		if onItsHost && form != "none" { // all of the registry pauses
			a.limited(form, retryAfter)
		} else {
			a.refused(http.StatusServiceUnavailable, "UNAVAILABLE", "could not verify")
		}

		g.registry.Unlimit()
		g.clock.advance(wait + time.Second)
		g.pull(fresh)
		g.pull(admitted)
	})
}

func limitTags(g *gate, p profiles.Profile) {
	g.pushSigned(p.Repository, "listed")
	g.limit(profiles.TagsEndpoint, func(g *gate, form, retryAfter string) {
		for range 3 {
			g.ask(http.MethodGet, p.Repository, "tags/list").limited(form, retryAfter)
		}
		if n := len(g.registry.At(profiles.TagsEndpoint)); form != "none" && n != 1 {
			g.t.Errorf("tags were asked for %d times", n)
		}

		g.registry.Unlimit()
		g.clock.advance(wait + time.Second)
		a := g.ask(http.MethodGet, p.Repository, "tags/list")
		if a.status != http.StatusOK || !strings.Contains(string(a.body), `"listed"`) {
			g.t.Errorf("%s: %d %s", a.what, a.status, a.body)
		}
	})
}
