package proxy_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pullgate/pullgate/proxy/upstream"
	"github.com/pullgate/pullgate/test/hostile"
)

// mirrored puts a second registry beside the rig's, each behind a front that can
// lie. The second is asked where the first does not do.
func (r *rig) mirrored() (first, second *front, other *hostile.Registry) {
	r.t.Helper()
	other = hostile.New()
	r.t.Cleanup(other.Close)
	fronts := []*front{
		{next: r.reg, lies: map[string]http.HandlerFunc{}, asked: map[string]int{}},
		{next: other, lies: map[string]http.HandlerFunc{}, asked: map[string]int{}},
	}
	var list []*upstream.Upstream
	for _, f := range fronts {
		server := httptest.NewServer(f)
		r.t.Cleanup(server.Close)
		base, err := url.Parse(server.URL)
		if err != nil {
			r.t.Fatal(err)
		}
		up, err := upstream.New(upstream.Config{Host: "reg.example", URL: base, Now: r.clock.now})
		if err != nil {
			r.t.Fatal(err)
		}
		r.t.Cleanup(up.Close)
		list = append(list, up)
	}
	r.upstreams["reg.example"] = upstream.NewMirrors(list)
	r.reload()
	return fronts[0], fronts[1], other
}

// push puts the same image into several registries.
func (r *rig) push(tag string, layer []byte, to ...*hostile.Registry) hostile.Image {
	var image hostile.Image
	for _, reg := range to {
		image = reg.PushImage("prod/app", tag, layer)
	}
	return image
}

// What one mirror does not have, hides or makes up, another one's signature
// makes good; none is enough where none has one.
func TestMirrorsSignatures(t *testing.T) {
	t.Parallel()
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	junk := says("application/vnd.oci.image.manifest.v1+json", []byte(`{"schemaVersion":2,"layers":[]}`))
	empty := says("application/vnd.oci.image.index.v1+json", []byte(`{"schemaVersion":2,"manifests":[]}`))
	for name, tt := range map[string]struct {
		signed, other bool // by whom
		sig, list     http.HandlerFunc
		status        int
	}{
		"first has it":             {true, false, nil, nil, 200},
		"second has it":            {false, true, nil, nil, 200},
		"first lies about the tag": {false, true, junk, nil, 200},
		"first hides it":           {true, true, status(404), nil, 200},
		"first fails":              {true, true, status(500), status(500), 200},
		"first withholds it":       {true, true, status(403), status(403), 200},
		"first lists nothing":      {false, true, nil, empty, 200},
		"neither has it":           {false, false, nil, nil, 403},
		"neither, first fails":     {false, false, status(500), nil, 503},
		"neither, first lies":      {false, false, junk, empty, 403},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			first, _, other := r.mirrored()
			image := r.push("v1", random(10), r.reg, other)
			if tt.signed {
				r.reg.Sign("prod/app", image.Digest, r.key)
			}
			if tt.other {
				other.Sign("prod/app", image.Digest, r.key)
			}
			tag := "sha256-" + image.Digest.Encoded()
			if tt.sig != nil {
				first.on("manifests/"+tag+".sig", tt.sig)
			}
			if tt.list != nil {
				first.on("referrers/"+image.Digest.String(), tt.list)
				first.on("manifests/"+tag, tt.list)
			}
			if g := r.get(manifests("prod/app", image.Digest)); g.status != tt.status {
				t.Errorf("status %d, want %d: %s", g.status, tt.status, g.body)
			}
		})
	}
}

// Bytes come from whichever mirror has them, hashed as ever.
func TestMirrorsBytes(t *testing.T) {
	t.Parallel()
	layer := random(5000)
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	hangUp := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	for name, lie := range map[string]http.HandlerFunc{
		"404":         status(404),
		"401":         status(401),
		"403":         status(403),
		"429":         status(429),
		"500":         status(500),
		"503":         status(503),
		"hang-up":     hangUp,
		"other bytes": says("application/octet-stream", []byte("{}")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			first, _, other := r.mirrored()
			image := r.push("v1", layer, r.reg, other)
			other.Sign("prod/app", image.Digest, r.key)
			if name == "other bytes" { // under the tag it would be another image
				first.on("manifests/v1", status(404))
			} else {
				first.on("manifests/v1", lie)
			}
			first.on("manifests/"+image.Digest.String(), lie)
			for _, d := range image.Layers {
				first.on("blobs/"+d.String(), lie)
			}
			r.get(manifests("prod/app", "v1")).served(t, image.Manifest)
			r.get(manifests("prod/app", image.Digest)).served(t, image.Manifest)
			if name != "other bytes" { // whose beginning is on its way already
				r.get(blobs("prod/app", image.Layers[0])).served(t, layer)
				if g := r.head(blobs("prod/app", image.Layers[0])); g.status != 200 || g.length != int64(len(layer)) {
					t.Errorf("HEAD: %d, %d", g.status, g.length)
				}
			}
		})
	}

	t.Run("of neither", func(t *testing.T) {
		r := newRig(t)
		first, _, other := r.mirrored()
		r.push("v1", layer, r.reg, other)
		r.get(manifests("prod/app", "none")).refused(t, http.StatusNotFound, "MANIFEST_UNKNOWN")
		first.on("manifests/gone", status(500))
		r.get(manifests("prod/app", "gone")).refused(t, http.StatusServiceUnavailable, "UNAVAILABLE")
	})

	t.Run("unsigned", func(t *testing.T) {
		r := newRig(t)
		first, _, other := r.mirrored()
		image := other.PushImage("prod/app", "v1", layer)
		first.on("manifests/v1", status(404))
		r.refusedAt("an unsigned image of the second mirror", manifests("prod/app", "v1"))
		r.refusedAt("its layer", blobs("prod/app", image.Layers[0]))
	})
}

// One that has failed is asked last for a while, then first again.
func TestMirrorsMemory(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first, second, other := r.mirrored()
	image := r.push("v1", random(10), r.reg, other)
	r.reg.Sign("prod/app", image.Digest, r.key)
	other.Sign("prod/app", image.Digest, r.key)
	ask := func(tag string) {
		for _, reg := range []*hostile.Registry{r.reg, other} {
			reg.PushRaw("prod/app", tag, "application/vnd.oci.image.manifest.v1+json", image.Manifest)
		}
		r.get(manifests("prod/app", tag)).served(t, image.Manifest)
	}

	first.on("manifests/a", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	ask("a")
	ask("b")
	if first.count("manifests/b") != 0 || second.count("manifests/b") == 0 {
		t.Error("the one that failed is asked first")
	}
	r.clock.advance(2 * time.Minute)
	ask("c")
	if first.count("manifests/c") == 0 || second.count("manifests/c") != 0 {
		t.Error("the first one is not asked first again")
	}
}

// A page is asked of the mirror that has linked to it.
func TestMirrorsPages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first, second, other := r.mirrored()
	r.push("v1", random(10), r.reg, other)
	first.on("tags/list", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) })
	second.on("tags/list", func(w http.ResponseWriter, q *http.Request) {
		if q.URL.RawQuery != "next=2" {
			w.Header().Set("Link", `</v2/prod/app/tags/list?next=2>; rel="next"`)
		}
		says("application/json", []byte(`{"tags":["`+strings.TrimPrefix(q.URL.RawQuery, "next=")+`x"]}`))(w, q)
	})
	g := r.get("/v2/reg.example/prod/app/tags/list")
	link, _, _ := strings.Cut(strings.TrimPrefix(g.header.Get("Link"), "<"), ">")
	if g.status != http.StatusOK || link == "" {
		t.Fatalf("status %d, Link %q", g.status, g.header.Get("Link"))
	}
	asked := first.count("tags/list")
	g = r.get(link)
	if !strings.Contains(string(g.body), `"2x"`) || g.header.Get("Link") != "" || first.count("tags/list") != asked {
		t.Errorf("%d, %s, Link %q; the first mirror was asked %d times more",
			g.status, g.body, g.header.Get("Link"), first.count("tags/list")-asked)
	}
}

// A mirror that shows nothing at all, as with credentials that have ended, does
// not say that there is no signature, whatever another one lets be read.
func TestMirrorsWithheld(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first, _, other := r.mirrored()
	image := r.push("v1", random(10), r.reg, other)
	tag := "sha256-" + image.Digest.Encoded()
	for _, what := range []string{
		"manifests/v1",
		"manifests/" + image.Digest.String(),
		"manifests/" + tag,
		"manifests/" + tag + ".sig",
		"referrers/" + image.Digest.String(),
	} {
		first.on(what, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	}
	r.get(manifests("prod/app", "v1")).refused(t, http.StatusServiceUnavailable, "UNAVAILABLE")

	other.Sign("prod/app", image.Digest, r.key)
	r.get(manifests("prod/app", "v1")).served(t, image.Manifest)
}
