package proxy_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/hostile"
)

// walk follows a listing's links and returns the tags of all pages.
func (r *rig) walk(path string) (tags []string, pages int, last got) {
	r.t.Helper()
	for next := path; next != ""; pages++ {
		last = r.get(next)
		if last.status != 200 {
			return tags, pages, last
		}
		var p struct{ Tags []string }
		if err := json.Unmarshal(last.body, &p); err != nil {
			r.t.Fatal(err)
		}
		tags = append(tags, p.Tags...)
		next, _, _ = strings.Cut(strings.TrimPrefix(last.header.Get("Link"), "<"), ">")
		if pages > 2000 {
			r.t.Fatal("paging does not end")
		}
	}
	return tags, pages, last
}

// The registry's own page tokens lead a client through every page once.
func TestTagsPaging(t *testing.T) {
	t.Parallel()
	tokens := []string{"", "next_page=B%3D&n=2", "c;d|%zz&ns=evil.example&ns=x", "n=99999&page=7"}
	for name, target := range map[string]string{
		"relative":   "?",
		"absolute":   "/v2/prod/app/tags/list?",
		"other host": "https://inner.example:8443/v2/inner/tags/list?",
	} {
		for _, start := range []string{"/v2/reg.example/prod/app/tags/list", "/v2/prod/app/tags/list?ns=reg.example"} {
			t.Run(name+" "+start, func(t *testing.T) {
				t.Parallel()
				r := newRig(t)
				r.reg.On(hostile.Change(hostile.Tags, func(q hostile.Request, a *hostile.Answer) {
					_, query, _ := strings.Cut(q.URI, "?")
					at := slices.Index(tokens, query)
					a.Status, a.Body = 200, fmt.Appendf(nil, `{"tags":["%d"]}`, at)
					a.Header = http.Header{"Content-Type": {"application/json"}}
					if at+1 < len(tokens) {
						a.Header.Set("Link", "<"+target+tokens[at+1]+`>; rel="next"`)
					}
				}))
				tags, _, g := r.walk(start)
				if strings.Join(tags, "") != "0123" {
					t.Errorf("%q, then %d %s", tags, g.status, g.body)
				}
			})
		}
	}
}

// A registry that leads in a circle does not lead a client in one.
func TestTagsCircle(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ before, length int }{{0, 1}, {1, 1}, {0, 2}, {3, 4}, {5, 7}, {10, 1}, {0, 33}} {
		t.Run(fmt.Sprintf("%d pages, then a circle of %d", c.before, c.length), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.reg.On(hostile.Change(hostile.Tags, func(q hostile.Request, a *hostile.Answer) {
				_, query, _ := strings.Cut(q.URI, "?at=")
				at, _ := strconv.Atoi(query)
				if at++; at >= c.before+c.length {
					at = c.before
				}
				a.Status, a.Body = 200, []byte(`{"tags":["a"]}`)
				a.Header = http.Header{"Link": {fmt.Sprintf(`<?at=%d>; rel="next"`, at)}}
			}))
			_, pages, g := r.walk("/v2/reg.example/prod/app/tags/list")
			g.refused(t, http.StatusBadGateway, "UNAVAILABLE")
			if pages < c.before+c.length-1 || pages > 4*(c.before+c.length)+2 {
				t.Errorf("%d pages", pages)
			}
		})
	}
	t.Run("of an empty page", func(t *testing.T) { // so some registries end a list
		t.Parallel()
		r := newRig(t)
		r.reg.On(hostile.Change(hostile.Tags, func(_ hostile.Request, a *hostile.Answer) {
			a.Status, a.Body = 200, []byte(`{"tags":[]}`)
			a.Header = http.Header{"Link": {`<?at=0>; rel="next"`}}
		}))
		if _, pages, g := r.walk("/v2/reg.example/prod/app/tags/list"); g.status != 200 || pages > 2 {
			t.Errorf("%d pages, then %d", pages, g.status)
		}
	})
}

// A list without end costs its client half of its questions, and its pulls none
// of the others.
func TestEndlessListing(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *options) { o.limits = func(l *limits) { l.ClientMisses = 20 } })
	image := r.reg.PushImage("open/app", "v1")
	n := 0
	r.reg.On(hostile.Change(hostile.Tags, func(_ hostile.Request, a *hostile.Answer) {
		n++
		a.Header.Set("Link", fmt.Sprintf(`<?token=%d>; rel="next"`, n))
	}))
	_, pages, g := r.walk("/v2/reg.example/open/app/tags/list")
	g.refused(t, http.StatusTooManyRequests, "TOOMANYREQUESTS")
	if pages < 5 || pages > 10 {
		t.Errorf("%d pages", pages)
	}
	r.get(manifests("open/app", "v1")).served(t, image.Manifest)
}

// Referrers that are more than the gate reads at once are handed on by a link.
func TestReferrersPaging(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	image := r.reg.PushImage("prod/app", "v1")
	r.reg.On(hostile.Change(hostile.Referrers, func(q hostile.Request, a *hostile.Answer) {
		_, query, _ := strings.Cut(q.URI, "?at=")
		at, _ := strconv.Atoi(query)
		a.Status, a.Body = 200, fmt.Appendf(
			nil,
			`{"manifests":[{"mediaType":%q,"digest":%q,"size":1,"artifactType":"x/%d"}]}`,
			hostile.ImageType,
			digest.FromString(strconv.Itoa(at)),
			at%2,
		)
		a.Header = http.Header{"Content-Type": {hostile.IndexType}}
		if at < 9 {
			a.Header.Set("Link", fmt.Sprintf(`<?at=%d>; rel="next"`, at+1))
		}
	}))
	for filter, want := range map[string]int{"": 10, "&artifactType=x/1": 5} {
		found := map[string]bool{}
		next := "/v2/prod/app/referrers/" + image.Digest.String() + "?ns=reg.example" + filter
		for pages := 0; next != "" && pages < 10; pages++ {
			g := r.get(next)
			var index struct{ Manifests []struct{ Digest string } }
			if err := json.Unmarshal(g.body, &index); err != nil || g.status != 200 {
				t.Fatalf("%d %v %s", g.status, err, g.body)
			}
			for _, m := range index.Manifests {
				found[m.Digest] = true
			}
			next, _, _ = strings.Cut(strings.TrimPrefix(g.header.Get("Link"), "<"), ">")
		}
		if len(found) != want {
			t.Errorf("%q: %d referrers", filter, len(found))
		}
	}
}
