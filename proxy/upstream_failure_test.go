package proxy_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/hostile"
)

// Section 3's table, for the manifest itself. Nothing of a failure is kept:
// with the upstream mended the next answer is 200.
func TestUpstreamFailures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		trick      hostile.Trick
		status     int
		code       string
		retryAfter string
	}{
		{hostile.Status(404), 404, "MANIFEST_UNKNOWN", ""},
		{hostile.Status(401, "Www-Authenticate", `Basic realm="x"`), 404, "NAME_UNKNOWN", ""},
		{hostile.Status(401), 404, "NAME_UNKNOWN", ""},
		{hostile.Status(403), 403, "DENIED", ""},
		{hostile.Status(402), 402, "DENIED", ""},
		{hostile.Status(410), 410, "MANIFEST_UNKNOWN", ""},
		{hostile.Status(451, "Retry-After", "86400"), 451, "DENIED", "86400"},
		{hostile.TooManyRequests("120"), 429, "TOOMANYREQUESTS", "120"},
		{
			hostile.TooManyRequests("Wed, 21 Oct 2099 07:28:00 GMT"),
			429,
			"TOOMANYREQUESTS",
			"Wed, 21 Oct 2099 07:28:00 GMT",
		},
		{hostile.TooManyRequests("soon <script>"), 429, "TOOMANYREQUESTS", ""},
		{hostile.Status(500), 503, "UNAVAILABLE", "5"},
		{hostile.Status(502), 503, "UNAVAILABLE", "5"},
		{hostile.Status(503, "Retry-After", "77"), 503, "UNAVAILABLE", "5"},
		{hostile.Status(599), 503, "UNAVAILABLE", "5"},
		{hostile.Status(204), 502, "UNAVAILABLE", ""},
		{hostile.Status(304), 502, "UNAVAILABLE", ""},
		{hostile.Status(302), 502, "UNAVAILABLE", ""},
		{hostile.Gzip, 502, "UNAVAILABLE", ""},
		{hostile.Unasked206, 502, "UNAVAILABLE", ""},
		{hostile.HugeManifest, 502, "UNAVAILABLE", ""},
		{hostile.LieAboutDigest, 502, "UNAVAILABLE", ""},
		{hostile.GarbleDigest, 502, "UNAVAILABLE", ""},
		{hostile.Endless, 502, "UNAVAILABLE", ""},
		{hostile.StallAtOnce, 503, "UNAVAILABLE", "5"},
		{hostile.StallAfterHeaders, 503, "UNAVAILABLE", "5"},
		{hostile.StallMidBody, 503, "UNAVAILABLE", "5"},
		{hostile.Truncate, 503, "UNAVAILABLE", "5"},
		{hostile.TruncateChunked, 503, "UNAVAILABLE", "5"},
		{hostile.TooLongLength, 503, "UNAVAILABLE", "5"},
		{hostile.ManyLayers.At(hostile.For("v1")), 0, "", ""},
	} {
		t.Run(c.trick.Name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, ifStalling(c.trick))
			image := r.signed("v1")
			r.reg.On(c.trick)
			paths := []string{manifests("prod/app", "v1")}
			if c.trick.Name != hostile.LieAboutDigest.Name &&
				c.trick.Name != hostile.GarbleDigest.Name { // by digest the bytes speak for themselves
				paths = append(paths, manifests("prod/app", image.Digest))
			}
			for _, path := range paths {
				if c.status == 0 {
					if path == paths[0] {
						r.get(path).refused(t, http.StatusBadRequest, "MANIFEST_INVALID")
					}
					continue
				}
				start := time.Now()
				g := r.get(path)
				e := g.refused(t, c.status, c.code)
				took := time.Since(start)
				if strings.HasPrefix(c.trick.Name, "stall") && took > verifyTimeout+pace(10*time.Second) {
					t.Errorf("%s took %s", path, took)
				}
				got := g.header.Get("Retry-After")
				if n, err := strconv.Atoi(
					got,
				); c.status == 429 && path != paths[0] &&
					c.retryAfter != "" { // while it pauses
					if err != nil || n < 1 || n > 301 {
						t.Errorf("Retry-After %q during a pause", got)
					}
				} else if got != c.retryAfter {
					t.Errorf("Retry-After %q, want %q", got, c.retryAfter)
				}
				if strings.Contains(e.Errors[0].Message, "127.0.0.1") ||
					strings.Contains(string(g.body), "from upstream") {
					t.Errorf("an inner error's text: %s", g.body)
				}
				if c.status == 503 && e.Errors[0].Detail.Decision != "" {
					t.Errorf("could-not-tell looks like a denial: %s", g.body)
				}
			}
			r.refusedAt("a layer meanwhile", blobs("prod/app", image.Layers[0]))
			r.mend()
			r.clock.advance(5 * time.Minute) // a 404 is believed for three seconds, a 429 for as long as it asks for
			for _, path := range paths {
				r.get(path).served(t, image.Manifest)
			}
		})
	}
}

// By digest, other bytes are a lie whatever they are.
func TestOtherBytes(t *testing.T) {
	t.Parallel()
	for _, trick := range []hostile.Trick{
		hostile.HTML,
		hostile.Shorten,
		hostile.Lengthen,
		hostile.ManyLayers,
		hostile.OtherBytes(hostile.ImageType, []byte("{}")),
		hostile.TooShortLength,
	} {
		r := newRig(t)
		image := r.signed("v1")
		r.reg.On(trick.At(hostile.For(image.Digest)))
		r.get(manifests("prod/app", image.Digest)).refused(t, http.StatusBadGateway, "UNAVAILABLE")
		r.mend()
		r.get(manifests("prod/app", image.Digest)).served(t, image.Manifest)
	}
}

// A 401 when there are credentials is the gate's trouble, not the client's.
func TestRefusedCredentials(t *testing.T) {
	t.Parallel()
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("of-the-gate"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(o *options) { o.password = password })
	image := r.signed("v1")
	r.reg.On(hostile.Status(401, "Www-Authenticate", `Basic realm="x"`))
	g := r.get(manifests("prod/app", "v1"))
	e := g.refused(t, http.StatusBadGateway, "UNAVAILABLE")
	if !strings.HasPrefix(e.Errors[0].Message, "the gate's credentials for reg.example were refused (decision ") ||
		g.header.Get("Www-Authenticate") != "" {
		t.Errorf("%s %v", g.body, g.header)
	}
	if text := r.log.String() + string(g.body); strings.Contains(text, "of-the-gate") {
		t.Errorf("the password is in: %s", text)
	}
	r.mend()
	r.get(manifests("prod/app", "v1")).served(t, image.Manifest)
}

// Promise 3: an unsigned image is denied only when every place has answered;
// otherwise the answer is could-not-tell, and nothing is remembered.
func TestUnansweredLookUp(t *testing.T) {
	t.Parallel()
	for name, trick := range map[string]hostile.Trick{
		".sig tag 500":            hostile.BrokenSignatureTag(),
		".sig tag stalls":         hostile.StallMidBody.At(hostile.SignatureTags),
		".sig tag stalls at once": hostile.StallAtOnce.At(hostile.SignatureTags),
		".sig tag lies":           hostile.LieAboutDigest.At(hostile.SignatureTags),
		".sig tag truncated":      hostile.Truncate.At(hostile.SignatureTags),
		".sig tag gzip":           hostile.Gzip.At(hostile.SignatureTags),
		"payload 500":             hostile.Status(500).At(hostile.Is(hostile.Blobs)),
		"payload flipped":         hostile.FlipBlob,
		"payload stalls":          hostile.StallMidBody.At(hostile.Is(hostile.Blobs)),
		"payload truncated":       hostile.TruncateChunked.At(hostile.Is(hostile.Blobs)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, ifStalling(trick))
			image := r.signed("v1")
			r.reg.On(trick)
			g := r.get(manifests("prod/app", "v1"))
			if g.status != 503 && g.status != 502 {
				t.Errorf("status %d, want could-not-tell: %s", g.status, g.body)
			}
			if bytes.Contains(g.body, []byte(image.Config)) {
				t.Error("the manifest left")
			}
			r.mend()
			r.get(manifests("prod/app", "v1")).served(t, image.Manifest)
		})
	}
	for _, trick := range []hostile.Trick{
		hostile.NoReferrers(500),
		hostile.Truncate.At(hostile.Is(hostile.Referrers)),
		hostile.StallMidBody.At(hostile.Is(hostile.Referrers)),
		hostile.TooManyRequests("9").At(hostile.Is(hostile.Referrers)),
		hostile.Status(451).At(hostile.Is(hostile.Referrers)), // 403 is: what is not shown cannot count
	} {
		r := newRig(t, ifStalling(trick))
		image := r.reg.PushImage("prod/app", "v1")
		r.reg.On(trick)
		g := r.get(manifests("prod/app", "v1"))
		if g.status == 200 || strings.Contains(string(g.body), "no signature found") {
			t.Errorf("referrers, %s: %d %s", trick.Name, g.status, g.body)
		}
		r.mend()
		r.clock.advance(10 * time.Second) // a 429 is obeyed as long as it asks for
		r.reg.Sign("prod/app", image.Digest, r.key)
		r.get(manifests("prod/app", "v1")).served(t, image.Manifest) // at once: could-not-tell is not remembered
	}
}

// What a registry may do when it has no referrers is no failure.
func TestAbsentReferrers(t *testing.T) {
	t.Parallel()
	for _, status := range []int{404, 405, 501, 400, 200} {
		r := newRig(t)
		r.reg.PushImage("prod/app", "v1")
		r.reg.On(hostile.NoReferrers(status))
		e := r.get(manifests("prod/app", "v1")).refused(t, http.StatusForbidden, "DENIED")
		if !strings.Contains(e.Errors[0].Message, "no signature found") {
			t.Errorf("%d: %s", status, e.Errors[0].Message)
		}
	}
}

// Promise 7: heaps of referrers cost a bounded number of questions, and the
// refusal says that not all were looked at.
func TestReferrerFlood(t *testing.T) {
	t.Parallel()
	for _, trick := range []hostile.Trick{hostile.ManyReferrers, hostile.EndlessPaging} {
		r := newRig(t)
		r.reg.PushImage("prod/app", "v1")
		r.reg.On(trick)
		e := r.get(manifests("prod/app", "v1")).refused(t, http.StatusForbidden, "DENIED")
		if strings.Contains(e.Errors[0].Message, "no signature found") {
			t.Errorf("%s: %s", trick.Name, e.Errors[0].Message)
		}
		if n := len(r.reg.Requests()); n > 64+10 {
			t.Errorf("%s: %d requests", trick.Name, n)
		}
	}
}

// Under every trick there is: what is served is what was signed, byte for byte,
// and nothing else is.
func TestTricks(t *testing.T) {
	t.Parallel()
	other := hostile.OtherBytes(hostile.ImageType, []byte(`{"schemaVersion":2}`))
	for _, trick := range append(hostile.All, hostile.Status(500), other) {
		if trick.Name == hostile.Endless.Name { // see TestEndlessBlob
			trick = trick.At(hostile.Is(hostile.Manifests))
		}
		rounds := 2
		if strings.HasPrefix(trick.Name, "stall") { // a stalled blob is waited for longer than a test may take
			trick, rounds = trick.At(hostile.Is(hostile.Manifests)), 1
		}
		t.Run(trick.Name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, ifStalling(trick))
			layer := random(5000)
			good, bad := r.reg.PushImage("prod/app", "good", layer), r.reg.PushImage("prod/app", "bad")
			r.reg.Sign("prod/app", good.Digest, r.key)
			r.reg.On(trick)
			for range rounds {
				for path, want := range map[string][]byte{
					manifests("prod/app", "good"):      good.Manifest,
					manifests("prod/app", good.Digest): good.Manifest,
					blobs("prod/app", good.Layers[0]):  layer,
					manifests("prod/app", "bad"):       nil,
					manifests("prod/app", bad.Digest):  nil,
					blobs("prod/app", bad.Layers[0]):   nil,
					blobs("prod/app", bad.Digest):      nil,
				} {
					g, err := r.try(t.Context(), http.MethodGet, path)
					if err != nil || g.err != nil {
						continue // cut off
					}
					if g.status == http.StatusOK && (want == nil || !bytes.Equal(g.body, want)) {
						t.Errorf("%s: 200 with %.100q", path, g.body)
					}
					if want == nil && g.status < 400 {
						t.Errorf("%s: status %d", path, g.status)
					}
				}
				r.restart()
			}
		})
	}
}

// Section 6: after network errors the signatures kept with the manifest are
// verified again, under today's policy.
func TestKeptSignatures(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	layer := random(100)
	image, bad := r.reg.PushImage("prod/app", "v1", layer), r.reg.PushImage("prod/app", "bad")
	r.reg.Sign("prod/app", image.Digest, r.key)
	r.get(manifests("prod/app", "v1")).served(t, image.Manifest)
	r.restart()
	r.reg.On(
		hostile.Status(500).At(hostile.Is(hostile.Manifests)),
		hostile.Status(500).At(hostile.Is(hostile.Referrers)),
	)
	r.get(manifests("prod/app", image.Digest)).served(t, image.Manifest)
	r.get(blobs("prod/app", image.Layers[0])).served(t, layer)
	r.get(manifests("prod/app", bad.Digest)).refused(t, http.StatusServiceUnavailable, "UNAVAILABLE")
	r.key = newKey(t)
	r.reload()
	if g := r.get(manifests("prod/app", image.Digest)); g.status != 503 && g.status != 403 {
		t.Errorf("kept signatures outlived their key: %d", g.status)
	}
	r.clock.advance(25 * time.Hour)
	if g := r.get(manifests("prod/app", image.Digest)); g.status == 200 {
		t.Error("kept signatures outlived staleIfError")
	}
}

// Listings are bounded in time like everything else.
func TestStalledListing(t *testing.T) {
	t.Parallel()
	for _, kind := range []hostile.Kind{hostile.Tags, hostile.Referrers} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, impatient)
			image := r.signed("v1")
			r.reg.On(hostile.StallMidBody.At(hostile.Is(kind)))
			path := "/v2/reg.example/prod/app/tags/list"
			if kind == hostile.Referrers {
				path = "/v2/reg.example/prod/app/referrers/" + image.Digest.String()
			}
			ctx, cancel := context.WithTimeout(t.Context(), pace(10*time.Second))
			defer cancel()
			g, err := r.try(ctx, http.MethodGet, path)
			if errors.Is(err, context.DeadlineExceeded) {
				t.Fatal("no answer in time")
			}
			if err != nil {
				t.Fatal(err)
			}
			g.refused(t, http.StatusServiceUnavailable, "UNAVAILABLE")
		})
	}
}

// Names only, and only where a policy could allow an image.
func TestTagsList(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, tag := range []string{"a", "b", "c", "d", "e"} {
		r.reg.PushImage("prod/app", tag)
		r.reg.PushImage("closed/app", tag)
		r.reg.PushImage("unlisted/app", tag)
	}
	type page struct {
		Name string
		Tags []string
	}
	read := func(g got) page {
		t.Helper()
		var p page
		if err := json.Unmarshal(g.body, &p); err != nil || g.status != 200 {
			t.Fatalf("%d %v %s", g.status, err, g.body)
		}
		return p
	}
	p := read(r.get("/v2/reg.example/prod/app/tags/list"))
	if p.Name != "reg.example/prod/app" || strings.Join(p.Tags, "") != "abcde" {
		t.Errorf("%+v", p)
	}
	var all []string
	for next := "/v2/prod/app/tags/list?n=2&ns=reg.example"; next != ""; {
		g := r.get(next)
		all = append(all, read(g).Tags...)
		link := g.header.Get("Link")
		if next = ""; link != "" {
			target, ok := strings.CutSuffix(link, `>; rel="next"`)
			if !ok || !strings.HasPrefix(target, "</v2/prod/app/tags/list?") ||
				!strings.Contains(target, "ns=reg.example") {
				t.Fatalf("Link %q", link)
			}
			next = target[1:]
		}
		if len(all) > 10 {
			t.Fatal("paging does not end")
		}
	}
	if strings.Join(all, "") != "abcde" {
		t.Errorf("pages hold %q", all)
	}
	r.reg.Forget()
	for _, repo := range []string{"closed/app", "unlisted/app"} {
		r.refusedAt("tags of a repository that no policy allows", "/v2/reg.example/"+repo+"/tags/list")
		r.refusedAt("referrers there", "/v2/reg.example/"+repo+"/referrers/"+digest.FromString("x").String())
	}
	for _, n := range []string{"-1", "10001", "99999999999999999999", "x", "0x10", "1e3"} { // CVE-2023-2253
		if g := r.get("/v2/reg.example/prod/app/tags/list?n=" + n); g.status != 400 {
			t.Errorf("n=%s: %d", n, g.status)
		}
	}
	if len(r.reg.Requests()) > 0 {
		t.Errorf("the upstream was asked %v", r.reg.Requests())
	}
	r.reg.On(hostile.AddHeaders("Link", `</v2/prod/app/tags/list?last=a; rel="next"`))
	r.get("/v2/reg.example/prod/app/tags/list").refused(t, http.StatusBadGateway, "UNAVAILABLE")
	r.mend()
	for _, target := range []string{
		"",
		"x",
		"1.2",
		"1.2.!",
		"1.2.",
		"-1.0.bj0y",
		"0.0." + base64.RawURLEncoding.EncodeToString([]byte("a\r\nb")),
	} {
		r.get("/v2/reg.example/prod/app/tags/list?n=1&page="+url.QueryEscape(target+" ")).
			refused(t, http.StatusBadRequest, "UNSUPPORTED")
	}
}

func TestReferrers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	image := r.reg.PushImage("prod/app", "v1")
	signature := r.reg.Attach("prod/app", image.Digest, r.key)
	path := "/v2/reg.example/prod/app/referrers/" + image.Digest.String()
	g := r.get(path)
	if g.status != 200 || g.header.Get("Content-Type") != hostile.IndexType ||
		!bytes.Contains(g.body, []byte(signature)) {
		t.Fatalf("%d %v %s", g.status, g.header, g.body)
	}
	g = r.get(path + "?artifactType=" + url.QueryEscape(hostile.SignatureType))
	if !bytes.Contains(g.body, []byte(signature)) || g.header.Get("Oci-Filters-Applied") != "artifactType" {
		t.Errorf("filtered: %s %v", g.body, g.header)
	}
	if g := r.get(path + "?artifactType=application/other"); bytes.Contains(g.body, []byte(signature)) {
		t.Errorf("filtered: %s", g.body)
	}
	smuggling := []byte(`{"schemaVersion":2,"manifests":[{"mediaType":"` + hostile.ImageType + `","digest":"` +
		signature.String() + `","size":7,"data":"c211Z2dsZWQ=","urls":["http://evil.example"],` +
		`"platform":{"os":"x"},"annotations":{"a":"b"}},{"digest":"sha256:../../x"},{}],` +
		`"data":"c211Z2dsZWQ=","subject":{"data":"c211Z2dsZWQ="}}`)
	r.reg.On(hostile.OtherBytes(hostile.IndexType, smuggling).At(hostile.Is(hostile.Referrers)))
	g = r.get(path)
	if bytes.Contains(g.body, []byte("c211Z2dsZWQ")) || bytes.Contains(g.body, []byte("evil")) ||
		bytes.Contains(g.body, []byte("..")) ||
		!bytes.Contains(g.body, []byte(signature)) {
		t.Errorf("%s", g.body)
	}
	for _, status := range []int{404, 405, 501, 400, 200, 406, 410, 415, 422} {
		r.mend()
		r.reg.On(hostile.NoReferrers(status))
		r.get(path).refused(t, http.StatusNotFound, "UNSUPPORTED")
	}
	r.mend()
	r.reg.On(hostile.EndlessPaging)
	r.reg.Forget()
	if g := r.get(path); g.status != 200 || len(r.reg.Requests()) > 10 {
		t.Errorf("endless paging: %d after %d requests", g.status, len(r.reg.Requests()))
	}
}
