package profiles_test

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/pullgate/pullgate/test/profiles"
)

// pullRanges: a client goes on where it was cut off, wherever the blob comes from.
func pullRanges(g *gate, p profiles.Profile) {
	i := g.pushSigned(p.Repository, "ranges")
	g.pull(i)

	layer := i.child.Layers[1]
	whole, part := i.blobs[layer], "blobs/"+layer.String()
	size := len(whole)
	for asked, want := range map[string]struct{ first, last int }{
		"bytes=100-199":                   {100, 199},
		"bytes=200-":                      {200, size - 1},
		"bytes=-50":                       {size - 50, size - 1},
		fmt.Sprintf("bytes=0-%d", size-1): {0, size - 1},
	} {
		a := g.ask(http.MethodGet, i.repository, part, "Range", asked)
		if p.Blobs.NoRanges {
			a.served(whole)
			continue
		}
		if said := fmt.Sprintf("bytes %d-%d/%d", want.first, want.last, size); a.status != http.StatusPartialContent ||
			a.header.Get("Content-Range") != said || string(a.body) != string(whole[want.first:want.last+1]) {
			g.t.Errorf("%s: %d %s, %d bytes", asked, a.status, a.header.Get("Content-Range"), len(a.body))
		}
	}

	if !p.Blobs.NoRanges {
		g.ask(http.MethodGet, i.repository, part, "Range", fmt.Sprintf("bytes=%d-", size)).
			refused(http.StatusRequestedRangeNotSatisfiable, "SIZE_INVALID", "outside the blob")
	}
}

// headBlobs: HEAD tells the size, also where a store's URL is good for GET alone.
func headBlobs(g *gate, p profiles.Profile) {
	i := g.pushSigned(p.Repository, "heads")
	g.pull(i)

	for d, b := range i.blobs {
		a := g.ask(http.MethodHead, i.repository, "blobs/"+d.String())
		if a.status != http.StatusOK || a.length != int64(len(b)) {
			g.t.Errorf("%s: %d, %d bytes; want %d", a.what, a.status, a.length, len(b))
		}
	}
}

// pullBlobLate: a redirect's URL is never kept, so that its end is never reached,
// and no client learns it.
func pullBlobLate(g *gate, p profiles.Profile) {
	i := g.pushSigned(p.Repository, "late")
	g.pull(i)

	for range 2 {
		g.clock.advance(p.Blobs.Life + time.Second)
		for d, b := range i.blobs {
			a := g.ask(http.MethodGet, i.repository, "blobs/"+d.String())
			a.served(b)
			if location := a.header.Get("Location"); location != "" {
				g.t.Errorf("Location %q", location)
			}
		}
	}
}

// pullConcurrently: clients that come at once get the image by one token.
func pullConcurrently(g *gate, p profiles.Profile) {
	i := g.pushSigned(p.Repository, "v1")
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			g.manifest(i.repository, i.tag).served(i.index)
			g.manifest(i.repository, i.child.Digest.String()).served(i.child.Manifest)
		})
	}
	all.Wait()

	if n := len(g.registry.At(profiles.RealmEndpoint)); wantsToken(p) && n != 1 {
		g.t.Errorf("the realm was asked %d times", n)
	}
}
