package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/hostile"
)

// random bytes, which no reader mistakes for another part of themselves.
func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

// admitted is a rig with one image of one layer, pulled already.
func admitted(t *testing.T, layer []byte, change ...func(*options)) (*rig, hostile.Image) {
	t.Helper()
	r := newRig(t, change...)
	image := r.reg.PushImage("prod/app", "v1", layer)
	r.reg.Sign("prod/app", image.Digest, r.key)
	r.get(manifests("prod/app", "v1")).served(t, image.Manifest)
	r.reg.Forget()
	return r, image
}

// Blobs of an admitted image are served.
func TestServedBlob(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 1000, 64<<10 - 1, 64 << 10, 64<<10 + 1, 128 << 10, 1 << 20} {
		layer := random(size)
		r, image := admitted(t, layer)
		for _, trick := range []hostile.Trick{hostile.NoDigest, hostile.Chunked.At(hostile.Is(hostile.Blobs))} {
			r.reg.On(trick)
			g := r.get(blobs("prod/app", image.Layers[0]))
			g.served(t, layer)
			for name, value := range map[string]string{
				"Content-Type":           "application/octet-stream",
				"Docker-Content-Digest":  image.Layers[0].String(),
				"Cache-Control":          "private, no-cache",
				"X-Content-Type-Options": "nosniff",
				"Accept-Ranges":          "bytes",
			} {
				if got := g.header.Get(name); got != value {
					t.Errorf("%s is %q, want %q", name, got, value)
				}
			}
			if g.header.Get("Pullgate-Decision") == "" {
				t.Error("no decision id")
			}
			r.reg.Off()
		}
		h := r.head(blobs("prod/app", image.Layers[0]))
		if h.status != http.StatusOK || len(h.body) != 0 || h.length != int64(size) {
			t.Errorf("HEAD: %d with %d bytes, Content-Length %d, want %d", h.status, len(h.body), h.length, size)
		}
	}
}

// A blob is unknown until a manifest that lists it was admitted.
func TestUnknownBlob(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	image := r.signed("v1")
	for range 2 {
		g := r.get(blobs("prod/app", image.Layers[0]))
		e := g.refused(t, http.StatusForbidden, "DENIED").Errors[0]
		if !strings.Contains(e.Message, "not part of an image this gate has admitted; pull it by tag, or run "+
			"`pullgate warm <image>`") ||
			len(e.Detail.Reasons) != 1 ||
			e.Detail.Reasons[0] != "unknown_part" {
			t.Errorf("%+v", e)
		}
		if e.Detail.Decision == "" || e.Detail.Decision != g.header.Get("Pullgate-Decision") {
			t.Errorf("decision %q, header %v", e.Detail.Decision, g.header)
		}
	}
	if n := r.reg.Count(hostile.Is(hostile.Blobs)); n != 0 {
		t.Errorf("the upstream was asked %d times for a blob that no client may have", n)
	}
	r.get(manifests("prod/app", "v1")).served(t, image.Manifest) // never cached: now it is known
	r.get(blobs("prod/app", image.Layers[0])).served(t, r.reg.Blob("prod/app", image.Layers[0]))
}

// Promise 1: asking for a refused image first teaches the gate nothing.
func TestPartsOfRefusedImage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	image := r.reg.PushImage("prod/app", "v1")
	index := r.reg.PushIndex("prod/app", "multi", image.Digest)
	for range 2 {
		for _, path := range []string{
			manifests("prod/app", "v1"),
			manifests("prod/app", "multi"),
			manifests("prod/app", image.Digest),
			manifests("prod/app", index),
			blobs("prod/app", image.Config),
			blobs("prod/app", image.Layers[0]),
			blobs("prod/app", image.Layers[1]),
			blobs("prod/app", image.Digest),
			blobs("prod/app", index),
		} {
			r.refusedAt("of a refused image", path)
		}
		r.restart()
	}
}

// A layer that an admitted image shares with a refused one is the admitted
// one's; the rest of the refused one stays refused.
func TestSharedLayer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	shared := random(1000)
	good, bad := r.reg.PushImage("prod/app", "good", shared), r.reg.PushImage("prod/app", "bad", shared, random(500))
	r.reg.Sign("prod/app", good.Digest, r.key)
	r.refusedAt("the bad image", manifests("prod/app", "bad"))
	r.get(manifests("prod/app", "good")).served(t, good.Manifest)
	r.get(blobs("prod/app", good.Layers[0])).served(t, shared)
	r.refusedAt("the bad one's own layer", blobs("prod/app", bad.Layers[1]))
	r.refusedAt("the bad one's config", blobs("prod/app", bad.Config))
}

// containerd asks for a manifest as a blob after a refusal: it is judged as the
// manifest that it is.
func TestManifestAsBlob(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	good, bad := r.signed("good"), r.reg.PushImage("prod/app", "bad")
	r.reg.PushBlob("prod/app", good.Manifest)
	r.reg.PushBlob("prod/app", bad.Manifest)
	r.refusedAt("by tag", manifests("prod/app", "bad"))
	r.refusedAt("as a blob", blobs("prod/app", bad.Digest))
	r.get(manifests("prod/app", "good")).served(t, good.Manifest)
	g := r.get(blobs("prod/app", good.Digest))
	g.served(t, good.Manifest)
	if got := g.header.Get("Content-Type"); got != hostile.ImageType {
		t.Errorf("Content-Type %q", got)
	}
	if n := r.reg.Count(hostile.Is(hostile.Blobs)); n > 1 { // the signature's payload
		t.Errorf("%d blobs were asked of the upstream", n)
	}
}

// subject and urls are an author's words: they admit nothing and are never
// followed (CVE-2020-15157: a layer's URL got the credentials).
func TestUnlistedParts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	elsewhere := httptest.NewServer(
		http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a descriptor's URL was asked") }),
	)
	defer elsewhere.Close()
	bad := r.reg.PushImage("prod/app", "")
	foreign := digest.FromString("foreign layer")
	image := r.reg.PushArtifact("prod/app", "v1", hostile.Artifact{
		ConfigType: hostile.ConfigType,
		Config:     []byte(`{"os":"linux"}`),
		Subject:    bad.Digest,
		Layers:     []hostile.Layer{{MediaType: hostile.LayerType, Digest: foreign, Size: 13}},
	})
	body := bytes.Replace(r.reg.Manifest("prod/app", image), []byte(`"digest":"`+foreign.String()+`"`),
		[]byte(`"urls":["`+elsewhere.URL+`/x"],"data":"Zm9yZWlnbiBsYXllcg==","digest":"`+foreign.String()+`"`), 1)
	d := r.reg.PushRaw("prod/app", "v1", hostile.ImageType, body)
	r.reg.Sign("prod/app", d, r.key)
	r.get(manifests("prod/app", "v1")).served(t, body)
	r.refusedAt("the subject", manifests("prod/app", bad.Digest))
	r.refusedAt("the subject as a blob", blobs("prod/app", bad.Digest))
	r.refusedAt("the subject's layer", blobs("prod/app", bad.Layers[0]))
	r.get(blobs("prod/app", foreign)).refused(t, http.StatusNotFound, "BLOB_UNKNOWN")
}

// What an index lists as a manifest is no blob, and what an image lists as a
// layer is no manifest.
func TestTypedParts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	inner := r.reg.PushImage("prod/app", "")
	r.reg.PushBlob("prod/app", inner.Manifest)
	asLayer := r.reg.PushImage("prod/app", "v1", inner.Manifest)
	r.reg.Sign("prod/app", asLayer.Digest, r.key)
	r.get(manifests("prod/app", "v1")).served(t, asLayer.Manifest)
	r.get(blobs("prod/app", inner.Digest)).served(t, inner.Manifest)
	r.refusedAt("a layer as a manifest", manifests("prod/app", inner.Digest))

	layer := random(100)
	plain := r.reg.PushImage("prod/app", "", layer)
	index := r.reg.PushIndex("prod/app", "multi", plain.Layers[0]) // names a blob among its manifests
	r.reg.Sign("prod/app", index, r.key)
	r.get(manifests("prod/app", "multi")).served(t, r.reg.Manifest("prod/app", index))
	if g := r.get(blobs("prod/app", plain.Layers[0])); g.status == http.StatusOK || bytes.Contains(g.body, layer) {
		t.Errorf("a manifest entry admitted a blob: %d", g.status)
	}
}

func TestRange(t *testing.T) {
	t.Parallel()
	layer := random(1000)
	r, image := admitted(t, layer)
	path := blobs("prod/app", image.Layers[0])
	for _, c := range []struct {
		spec, contentRange string
		status             int
		want               []byte
	}{
		{"bytes=0-99", "bytes 0-99/1000", 206, layer[:100]},
		{"bytes=100-", "bytes 100-999/1000", 206, layer[100:]},
		{"bytes=-10", "bytes 990-999/1000", 206, layer[990:]},
		{"bytes=0-", "bytes 0-999/1000", 206, layer},
		{"bytes=0-5000", "bytes 0-999/1000", 206, layer},
		{"bytes=1000-", "", 416, nil},
		{"bytes=0-1,5-6", "", 200, layer},
		{"bytes=0-1, 5-6", "", 200, layer},
		{"bytes=5", "", 200, layer},
		{"bytes=a-b", "", 200, layer},
		{"lines=1-2", "", 200, layer},
		{"bytes=" + strings.Repeat("9", 30) + "-", "", 200, layer},
		{"bytes=0-1\tX-Evil", "", 200, layer},
	} {
		g := r.get(path, "Range", c.spec)
		if g.status != c.status || g.header.Get("Content-Range") != c.contentRange && c.status != 416 {
			t.Errorf("%s: %d, Content-Range %q, want %d, %q",
				c.spec, g.status, g.header.Get("Content-Range"), c.status, c.contentRange)
			continue
		}
		if c.status == 416 {
			g.refused(t, 416, "SIZE_INVALID")
			continue
		}
		if g.err != nil || !bytes.Equal(g.body, c.want) || g.length != int64(len(c.want)) {
			t.Errorf("%s: %d bytes of %d, %v, want %d", c.spec, len(g.body), g.length, g.err, len(c.want))
		}
		if h := r.head(path, "Range", c.spec); h.status != c.status || h.length != int64(len(c.want)) {
			t.Errorf("HEAD %s: %d, Content-Length %d", c.spec, h.status, h.length)
		}
	}
	r.get(path, "Range", "bytes=0-1", "Range", "bytes=5-6")
	for _, q := range r.reg.Requests() {
		spec := q.Header.Values("Range")
		if len(spec) > 1 ||
			len(spec) == 1 && (strings.ContainsAny(spec[0], ", \t") || !strings.HasPrefix(spec[0], "bytes=")) {
			t.Errorf("%s was asked with Range %q", q, spec)
		}
	}
	r.refusedAt("a range of an unknown part", blobs("prod/app", digest.FromString("unknown")))
	g := r.get(blobs("prod/app", digest.FromString("unknown")), "Range", "bytes=0-1")
	if g.status != http.StatusForbidden {
		t.Errorf("a range of an unknown part: %d", g.status)
	}
}

// Bytes that are not the digest's never make a clean 200: section 3. Sizes at
// and around the buffer's matter: the last buffer is held back.
func TestWrongBlob(t *testing.T) {
	t.Parallel()
	for _, size := range []int{10, 64<<10 - 1, 64 << 10, 64<<10 + 1, 128 << 10, 200_000, 1 << 20} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			t.Parallel()
			layer := random(size)
			r, image := admitted(t, layer)
			at := hostile.For(image.Layers[0])
			for _, trick := range []hostile.Trick{
				hostile.FlipBlob,
				hostile.Shorten,
				hostile.Lengthen,
				hostile.OtherBytes("application/octet-stream", random(100)),
				hostile.HTML,
				hostile.Truncate,
				hostile.TruncateChunked,
				hostile.TooShortLength,
				hostile.TooLongLength,
			} {
				for _, then := range []hostile.Trick{hostile.NoDigest, hostile.Chunked} {
					for _, header := range [][]string{nil, {"Range", "bytes=0-"}} {
						r.reg.Off()
						r.reg.On(trick.At(at), then.At(at))
						g, err := r.try(t.Context(), http.MethodGet, blobs("prod/app", image.Layers[0]), header...)
						if err != nil || g.status >= 400 { // cut before the first byte, or an error
							continue
						}
						if g.err == nil {
							t.Errorf("%s, %s, %v: a clean %d with %d bytes",
								trick.Name, then.Name, header, g.status, len(g.body))
						} else if !errors.Is(g.err, io.ErrUnexpectedEOF) {
							t.Errorf("%s, %s, %v: reading it failed with %v, want an unexpected EOF",
								trick.Name, then.Name, header, g.err)
						}
						if trick.Name == hostile.FlipBlob.Name && len(g.body) >= size {
							t.Errorf("%s, %s, %v: its last bytes left before the check", trick.Name, then.Name, header)
						}
					}
				}
			}
			r.reg.Off()
			r.get(blobs("prod/app", image.Layers[0])).served(t, layer) // nothing of it was kept
		})
	}
}

// A part cannot be hashed, but a part that ends early can be told from a whole one.
func TestTruncatedRange(t *testing.T) {
	t.Parallel()
	for _, trick := range []hostile.Trick{hostile.Truncate, hostile.TruncateChunked} {
		layer := random(200_000)
		r, image := admitted(t, layer)
		r.reg.On(trick.At(hostile.For(image.Layers[0])))
		g, err := r.try(t.Context(), http.MethodGet, blobs("prod/app", image.Layers[0]), "Range", "bytes=1000-150999")
		if err == nil && g.status < 300 && g.err == nil {
			t.Errorf("%s: a clean %d with %d of 150000 bytes (Content-Range %s)",
				trick.Name, g.status, len(g.body), g.header.Get("Content-Range"))
		}
	}
}

// Promise 7: a manifest says how large its layers are, so no blob goes on forever.
func TestEndlessBlob(t *testing.T) {
	t.Parallel()
	layer := random(1000)
	r, image := admitted(t, layer)
	r.reg.On(hostile.Endless.At(hostile.For(image.Layers[0])))
	resp, err := r.client.Get(r.url + blobs("prod/app", image.Layers[0]))
	if err != nil {
		return // cut before the first byte
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 16<<20))
	if n == 16<<20 || err == nil {
		t.Errorf("%d bytes of a layer of 1000, %v", n, err)
	}
}

// An answer that is no blob is an error.
func TestUnusableBlobAnswer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		trick      hostile.Trick
		status     int
		code       string
		retryAfter string
	}{
		{hostile.Gzip, 502, "UNAVAILABLE", ""},
		{hostile.Unasked206, 502, "UNAVAILABLE", ""},
		{hostile.Status(404), 404, "BLOB_UNKNOWN", ""},
		{hostile.Status(403), 403, "DENIED", ""},
		{hostile.Status(401), 404, "NAME_UNKNOWN", ""},
		{hostile.Status(402), 402, "DENIED", ""},
		{hostile.Status(410), 410, "MANIFEST_UNKNOWN", ""},
		{hostile.Status(451), 451, "DENIED", ""},
		{hostile.Status(500), 503, "UNAVAILABLE", "5"},
		{hostile.TooManyRequests("17"), 429, "TOOMANYREQUESTS", "17"},
		{hostile.Status(204), 502, "UNAVAILABLE", ""},
		{hostile.Status(302), 502, "UNAVAILABLE", ""},
		{hostile.Status(302, "Location", "ftp://127.0.0.1/x"), 502, "UNAVAILABLE", ""},
		{
			hostile.Status(302, "Location", "http://169.254.169.254/latest/meta-data/"),
			503,
			"UNAVAILABLE",
			"5",
		}, // never to link-local
		{hostile.Status(302, "Location", "/v2/"), 200, "", ""},
	} {
		layer := random(1000)
		r, image := admitted(t, layer)
		r.reg.On(c.trick.At(hostile.For(image.Layers[0])))
		path := blobs("prod/app", image.Layers[0])
		if c.status == 200 { // a redirect to other bytes
			if g, err := r.try(t.Context(), http.MethodGet, path); err == nil && g.err == nil && g.status < 400 {
				t.Errorf("%s: a clean %d", c.trick.Name, g.status)
			}
			continue
		}
		g := r.get(path)
		g.refused(t, c.status, c.code)
		if got := g.header.Get("Retry-After"); got != c.retryAfter {
			t.Errorf("%s: Retry-After %q, want %q", c.trick.Name, got, c.retryAfter)
		}
		r.reg.Off()
		r.clock.advance(20 * time.Second) // a 429 is obeyed as long as it asks for
		r.get(path).served(t, layer)
	}
}

// A redirect is followed here, and carries nothing of the client's or the gate's.
func TestBlobRedirect(t *testing.T) {
	t.Parallel()
	layer := random(100_000)
	r, image := admitted(t, layer, func(o *options) { o.hosts = []string{"store.example"} })
	store := r.regs["store.example"]
	storeURL := httptest.NewServer(store)
	defer storeURL.Close()
	store.PutBlob("prod/app", image.Layers[0], layer)
	r.reg.On(hostile.RedirectBlobs(storeURL.URL).At(hostile.For(image.Layers[0]))) // a verdict may be made again
	g := r.get(blobs("prod/app", image.Layers[0]), "Authorization", "Bearer of-the-client", "Cookie", "a=b")
	g.served(t, layer)
	if g.header.Get("Location") != "" {
		t.Error("the redirect was passed on")
	}
	g = r.get(blobs("prod/app", image.Layers[0]), "Range", "bytes=5-9")
	if g.status != 206 || !bytes.Equal(g.body, layer[5:10]) {
		t.Errorf("a range behind a redirect: %d, %d bytes", g.status, len(g.body))
	}
	for _, q := range store.Requests() {
		if q.Header.Get("Authorization")+q.Header.Get("Cookie")+q.Header.Get("Referer") != "" {
			t.Errorf("the store saw %v", q.Header)
		}
	}
	store.On(hostile.FlipBlob)
	if g, err := r.try(t.Context(), http.MethodGet, blobs("prod/app", image.Layers[0])); err == nil && g.err == nil {
		t.Error("the store's wrong bytes passed clean")
	}
	store.On(hostile.RedirectBlobs(storeURL.URL)) // to itself, for ever
	r.get(blobs("prod/app", image.Layers[0])).refused(t, http.StatusBadGateway, "UNAVAILABLE")
}

// A client that has sent its request may close its half of the connection and
// wait: it must not take a failure for a whole answer.
func TestHalfClosedClient(t *testing.T) {
	t.Parallel()
	layer := func(i hostile.Image) string { return blobs("prod/app", i.Layers[0]) }
	for name, c := range map[string]struct {
		trick hostile.Trick
		path  func(hostile.Image) string
		after string // what the client waits for before it closes its half
	}{
		"manifest that could not be verified": {
			hostile.StallAtOnce,
			func(hostile.Image) string { return manifests("prod/app", "other") },
			"",
		},
		"blob cut short":                     {hostile.TruncateChunked, layer, ""},
		"stalled blob":                       {hostile.StallMidBody, layer, ""},
		"blob stalled in its middle":         {hostile.StallMidBody, layer, "HTTP/1.1 200 OK\r\n"},
		"chunked blob stalled in its middle": {hostile.StallChunked, layer, "HTTP/1.1 200 OK\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, image := admitted(t, random(300_000))
			r.reg.PushImage("prod/app", "other")
			r.reg.On(c.trick)
			conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(time.Second))
			if _, err := io.WriteString(conn, "GET "+c.path(image)+" HTTP/1.1\r\nHost: gate\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			begun := make([]byte, len(c.after))
			if _, err := io.ReadFull(conn, begun); err != nil || string(begun) != c.after {
				t.Fatalf("%q, %v", begun, err)
			}
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			rest, _ := io.ReadAll(conn) // cut off, or to its end
			answer := append(begun, rest...)
			if !bytes.HasPrefix(answer, []byte("HTTP/1.1 200")) {
				return // an error is no clean answer
			}
			resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), nil)
			if err != nil {
				return
			}
			defer resp.Body.Close()
			if b, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("a clean 200 with %d bytes: %.300q", len(b), answer)
			}
		})
	}
}

// Promise 7: time. An answer that is not needed is not waited for.
func TestStalledErrorBody(t *testing.T) {
	t.Parallel()
	for name, status := range map[string]int{"404": 404, "redirect": 307} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, image := admitted(t, random(100))
			at := hostile.For(image.Layers[0])
			r.reg.On(hostile.Status(status, "Location", "/v2/").At(at), hostile.StallMidBody.At(at))
			ctx, cancel := context.WithTimeout(t.Context(), pace(10*time.Second))
			defer cancel()
			_, err := r.try(ctx, http.MethodGet, blobs("prod/app", image.Layers[0]))
			if errors.Is(err, context.DeadlineExceeded) {
				t.Error("no answer in time")
			}
		})
	}
}
