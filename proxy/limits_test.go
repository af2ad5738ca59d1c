package proxy_test

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/proxy/upstream"
	"github.com/pullgate/pullgate/test/hostile"
)

// The limits of the design's sections 4 and 6, against somebody who owns the
// repository. These tests do not run beside others: they count what the whole
// process allocates and which goroutines are left.

// front stands before the registry and answers some requests itself, with the
// bytes of the attacker's choice. Keys are the path's last two parts, as in
// "manifests/v1".
type front struct {
	next http.Handler

	mu    sync.Mutex
	lies  map[string]http.HandlerFunc
	asked map[string]int
}

func (f *front) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	parts := strings.Split(req.URL.Path, "/")
	key := strings.Join(parts[max(0, len(parts)-2):], "/")
	f.mu.Lock()
	lie := f.lies[key]
	f.asked[key]++
	f.mu.Unlock()
	if lie == nil {
		lie = f.next.ServeHTTP
	}
	lie(w, req)
}

func (f *front) on(key string, lie http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lies[key] = lie
}

func (f *front) count(key string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked[key]
}

// behind puts a front between the gate and the registry.
func (r *rig) behind() *front {
	r.t.Helper()
	f := &front{next: r.reg, lies: map[string]http.HandlerFunc{}, asked: map[string]int{}}
	server := httptest.NewServer(f)
	r.t.Cleanup(server.Close)
	r.t.Cleanup(server.CloseClientConnections) // lies that go on for ever end here
	base, err := url.Parse(server.URL)
	if err != nil {
		r.t.Fatal(err)
	}
	up, err := upstream.New(upstream.Config{Host: "reg.example", URL: base, UserAgent: "pullgate/test"})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(up.Close)
	r.upstreams["reg.example"] = up
	r.reload()
	return f
}

// says answers with a body, truly measured.
func says(contentType string, body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body)
	}
}

// Bodies that are not what their headers say.
var deliveries = map[string]func(contentType string, body []byte) http.HandlerFunc{
	"endless": func(contentType string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Content-Type", contentType)
			_, err := w.Write(body)
			for more := bytes.Repeat([]byte(" "), 32<<10); err == nil && req.Context().Err() == nil; {
				_, err = w.Write(more)
			}
		}
	},
	"a byte now and then": func(contentType string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Content-Type", contentType)
			for i := 0; req.Context().Err() == nil; i++ {
				if _, err := w.Write(body[i%len(body) : i%len(body)+1]); err != nil {
					return
				}
				_ = http.NewResponseController(w).Flush()
				select {
				case <-time.After(10 * time.Millisecond):
				case <-req.Context().Done():
				}
			}
		}
	},
	"a terabyte promised": lyingLength(1 << 40),
	"more than int64":     rawLength("99999999999999999999"),
	"negative length":     rawLength("-1"),
	"one byte promised":   rawLength("1"),
	"two lengths":         rawLength("5\r\nContent-Length: 7"),
}

// lyingLength promises n bytes, sends the body and hangs up.
func lyingLength(n int64) func(string, []byte) http.HandlerFunc {
	return func(contentType string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
			_, _ = w.Write(body)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	}
}

// rawLength writes a Content-Length that net/http would not.
func rawLength(length string) func(string, []byte) http.HandlerFunc {
	return func(contentType string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			conn, buffer, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			fmt.Fprintf(
				buffer,
				"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: %s\r\nContent-Length: %s\r\n\r\n%s",
				contentType,
				length,
				body,
			)
			_ = buffer.Flush()
		}
	}
}

// quiet is how long one pull may take under attack, and what it may allocate.
type quiet struct {
	timeout time.Duration // of a verdict
	alloc   uint64        // bytes, this process whole: gate, registry and client
}

// within runs one request of the attack and checks what it cost.
func (q quiet) within(t *testing.T, ask func() got) got {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	g := ask()
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	if took > q.timeout+2*time.Second {
		t.Errorf("it took %s", took)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > q.alloc {
		t.Errorf("%d MiB allocated, at most %d MiB may be", n>>20, q.alloc>>20)
	}
	return g
}

// siege is a rig under attack. The function it returns is deferred: it checks
// that a cold pull is as fast as it was before, and that no goroutine is left.
func siege(t *testing.T, change ...func(*options)) (*rig, *front, func()) {
	t.Helper()
	r := newRig(t, change...)
	f := r.behind()
	pull := func() time.Duration {
		var times []time.Duration
		for range 5 {
			image := r.signed("")
			start := time.Now()
			r.get(manifests("prod/app", image.Digest)).served(t, image.Manifest)
			r.get(blobs("prod/app", image.Layers[0])).served(t, r.reg.Blob("prod/app", image.Layers[0]))
			times = append(times, time.Since(start))
		}
		slices.Sort(times)
		return times[2]
	}
	before := pull()
	r.settle()
	goroutines := runtime.NumGoroutine()
	return r, f, func() {
		t.Helper()
		r.reg.Off()
		f.mu.Lock()
		clear(f.lies)
		f.mu.Unlock()
		if after := pull(); after > 5*before+pace(200*time.Millisecond) {
			t.Errorf("a good pull took %s before and %s after", before, after)
		}
		left := 0
		for range 500 { // what was under way ends with its own deadline
			r.settle()
			if left = runtime.NumGoroutine(); left <= goroutines {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		stacks := make([]byte, 64<<10)
		t.Errorf("%d goroutines before, %d after:\n%s", goroutines, left, stacks[:runtime.Stack(stacks, true)])
	}
}

// settle lets go of idle connections, which have goroutines of their own.
func (r *rig) settle() {
	r.client.CloseIdleConnections()
	for _, u := range r.upstreams {
		u.Close()
	}
}

// patience is a timeout that parsing megabytes on a busy machine keeps.
var patience = pace(5 * time.Second)

func patient(o *options) { o.limits = func(l *limits) { l.VerifyTimeout = patience } }

// bombs are JSON values of about n bytes that are cheap to send.
func bombs(n int) map[string]string {
	var distinct strings.Builder
	for i := 0; distinct.Len() < n-16; i++ {
		fmt.Fprintf(&distinct, `"%x":0,`, i)
	}
	return map[string]string{
		"deep lists":        strings.Repeat("[", n),
		"deep objects":      strings.Repeat(`{"a":`, n/5),
		"9,000 deep":        strings.Repeat("[", 9000) + strings.Repeat("]", 9000), // encoding/json takes it
		"wide list":         "[" + strings.Repeat("0,", n/2-2) + "0]",
		"wide objects":      "[" + strings.Repeat("{},", n/3-2) + "{}]",
		"huge key":          `{"` + strings.Repeat("k", n-10) + `":1}`,
		"huge key, escapes": `{"` + strings.Repeat(`\u212a`, n/6-2) + `":1}`,
		"huge number":       strings.Repeat("9", n),
		"huge exponent":     "1e" + strings.Repeat("9", n-2),
		"huge text":         `"` + strings.Repeat("x", n-2) + `"`,
		"one key in bulk":   `{` + strings.Repeat(`"a":0,`, n/6-2) + `"a":0}`,
		"keys in bulk":      `{` + distinct.String() + `"":0}`,
		"cut off":           `"` + strings.Repeat("x", n),
		"NUL bytes":         strings.Repeat("\x00", n),
	}
}

// harmless are the bombs that are one value, and nothing if nobody reads it.
var harmless = []string{"huge key", "huge key, escapes", "huge number", "huge exponent", "huge text"}

// sorted is for a stable order of subtests.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

const limitsFiller = `{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip",` +
	`"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}`

// imageWith is an image manifest with n layers and more.
func imageWith(n int, more string) []byte {
	layers := strings.TrimSuffix(strings.Repeat(limitsFiller+",", n), ",")
	return []byte(
		`{"schemaVersion":2,"mediaType":"` +
			hostile.ImageType + `","config":` + limitsFiller + `,"layers":[` + layers + `]` + more + `}`,
	)
}

func indexWith(n int, more string) []byte {
	return []byte(
		`{"schemaVersion":2,"mediaType":"` + hostile.IndexType + `","manifests":[` + strings.TrimSuffix(
			strings.Repeat(limitsFiller+",", n),
			",",
		) + `]` + more + `}`,
	)
}

// padded is an image manifest of exactly n bytes.
func padded(n int) []byte {
	short := len(imageWith(1, `,"annotations":{"p":""}`))
	return imageWith(1, `,"annotations":{"p":"`+strings.Repeat("x", n-short)+`"}`)
}

// CVE-2024-29903: limits.manifestBytes and limits.descriptors hold to the byte
// and to the part.
func TestManifestLimitsAreExact(t *testing.T) {
	r, f, end := siege(t, patient)
	defer end()
	q := quiet{patience, 64 << 20}
	for i, c := range []struct {
		name   string
		body   []byte
		status int
		code   string
	}{
		{"4 MiB", padded(4 << 20), 403, "DENIED"},
		{"4 MiB + 1", padded(4<<20 + 1), 502, "UNAVAILABLE"},
		{"2000 layers", imageWith(2000, ""), 403, "DENIED"},
		{"2001 layers", imageWith(2001, ""), 400, "MANIFEST_INVALID"},
		{"2001 manifests", indexWith(2001, ""), 400, "MANIFEST_INVALID"},
		{
			"100,000 small layers",
			append(append([]byte(`{"schemaVersion":2,"mediaType":"`+hostile.ImageType+`","config":`+limitsFiller+`,"layers":[{}`),
				strings.Repeat(`,{"size":1}`, 100_000)...), "]}"...),
			400,
			"MANIFEST_INVALID",
		},
		{
			"a million empty layers",
			append(append([]byte(`{"schemaVersion":2,"mediaType":"`+hostile.ImageType+`","config":`+limitsFiller+`,"layers":[{}`),
				strings.Repeat(`,{}`, 1_000_000)...), "]}"...),
			400,
			"MANIFEST_INVALID",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			for kind, lie := range map[string]http.HandlerFunc{
				"length": says(hostile.ImageType, c.body),
				"chunked": func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", hostile.ImageType)
					_ = http.NewResponseController(w).Flush()
					_, _ = w.Write(c.body)
				},
			} {
				if bytes.Contains(c.body[:100], []byte(hostile.IndexType)) {
					lie = says(hostile.IndexType, c.body)
				}
				tag := fmt.Sprint(kind, i)
				f.on("manifests/"+tag, lie)
				g := q.within(t, func() got { return r.get(manifests("prod/app", tag)) })
				g.refused(t, c.status, c.code)
			}
		})
	}
	t.Run("4 MiB, signed", func(t *testing.T) {
		body := bytes.Replace(padded(4<<20), []byte("xx"), []byte("yx"), 1)
		d := r.reg.PushRaw("prod/app", "largest", hostile.ImageType, body)
		r.reg.Sign("prod/app", d, r.key)
		quiet{
			patience,
			64 << 20,
		}.within(t, func() got { return r.get(manifests("prod/app", "largest")) }).served(t, body)
	})
	t.Run("2000 layers, signed", func(t *testing.T) {
		body := imageWith(2000, `,"annotations":{}`)
		d := r.reg.PushRaw("prod/app", "most", hostile.ImageType, body)
		r.reg.Sign("prod/app", d, r.key)
		r.get(manifests("prod/app", "most")).served(t, body)
	})
}

// A manifest made to be dear to read costs its length: it is no manifest, or,
// where the bomb is in a place nobody reads, an unsigned one.
func TestManifestBombs(t *testing.T) {
	r, f, end := siege(t, patient)
	defer end()
	q := quiet{patience, 96 << 20}
	all := bombs(4<<20 - 1000)
	for i, name := range sorted(all) {
		t.Run(name, func(t *testing.T) {
			status, code := 400, "MANIFEST_INVALID"
			if slices.Contains(harmless, name) {
				status, code = 403, "DENIED"
			}
			tag := fmt.Sprint("bomb", i)
			f.on("manifests/"+tag, says(hostile.ImageType, imageWith(1, `,"x":`+all[name])))
			q.within(t, func() got { return r.get(manifests("prod/app", tag)) }).refused(t, status, code)
		})
	}
	for name, body := range map[string]string{
		"size":          strings.Replace(string(imageWith(1, "")), `"size":2`, `"size":`+all["huge number"], 1),
		"exponent":      strings.Replace(string(imageWith(1, "")), `"size":2`, `"size":1e999999999`, 1),
		"schemaVersion": strings.Replace(string(imageWith(1, "")), `"schemaVersion":2`, `"schemaVersion":2`+strings.Repeat("0", 1<<20), 1),
		"digest":        strings.Replace(string(imageWith(1, "")), `"digest":"`, `"digest":"`+strings.Repeat("a", 1<<20), 1),
		"mediaType":     strings.Replace(string(imageWith(1, "")), `"mediaType":"`, `"mediaType":"`+strings.Repeat("a", 1<<20), 1),
	} {
		t.Run("in "+name, func(t *testing.T) {
			f.on("manifests/in-"+name, says(hostile.ImageType, []byte(body)))
			g := q.within(t, func() got { return r.get(manifests("prod/app", "in-"+name)) })
			g.refused(t, http.StatusBadRequest, "MANIFEST_INVALID")
			if len(g.body) > 1000 {
				t.Errorf("the refusal quotes %d bytes", len(g.body))
			}
		})
	}
}

const bundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// lookup is one place where signatures are looked for, held by the attacker.
type lookup struct {
	size int // of a bomb: as large as the place takes
	// put places a document there, served by lie.
	put func(r *rig, f *front, image digest.Digest, document []byte, lie func(contentType string, body []byte) http.HandlerFunc)
	// sign signs the image somewhere else, where the gate must still find it.
	sign func(r *rig, image digest.Digest)
}

func signUnderTag(r *rig, image digest.Digest)   { r.reg.Sign("prod/app", image, r.key) }
func signAsReferrer(r *rig, image digest.Digest) { r.reg.Attach("prod/app", image, r.key) }

var places = map[string]lookup{
	".sig manifest": {
		1 << 20,
		func(_ *rig, f *front, image digest.Digest, document []byte, lie func(string, []byte) http.HandlerFunc) {
			f.on("manifests/"+hostile.SignatureTag(image), lie(hostile.ImageType, document))
		},
		signAsReferrer,
	},
	"referrers answer": {
		4<<20 - 2000,
		func(_ *rig, f *front, image digest.Digest, document []byte, lie func(string, []byte) http.HandlerFunc) {
			f.on("referrers/"+image.String(), lie(hostile.IndexType, document))
		},
		signUnderTag,
	},
	"referrer's manifest": {
		1 << 20,
		func(_ *rig, f *front, image digest.Digest, document []byte, lie func(string, []byte) http.HandlerFunc) {
			d := digest.FromBytes(document)
			f.on(
				"referrers/"+image.String(),
				says(
					hostile.IndexType,
					fmt.Appendf(
						nil,
						`{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
						hostile.ImageType,
						d,
						len(document),
					),
				),
			)
			f.on("manifests/"+d.String(), lie(hostile.ImageType, document))
		},
		signUnderTag,
	},
	"fallback index": {
		1 << 20,
		func(_ *rig, f *front, image digest.Digest, document []byte, lie func(string, []byte) http.HandlerFunc) {
			f.on("manifests/"+hostile.FallbackTag(image), lie(hostile.IndexType, document))
		},
		signUnderTag,
	},
	"payload": {
		256<<10 - 2000,
		func(r *rig, f *front, image digest.Digest, document []byte, lie func(string, []byte) http.HandlerFunc) {
			layer := hostile.SignatureLayer(document, r.key) // truly signed
			r.reg.PushArtifact(
				"prod/app",
				hostile.SignatureTag(image),
				hostile.Artifact{Layers: []hostile.Layer{layer}},
			)
			f.on("blobs/"+digest.FromBytes(document).String(), lie("application/octet-stream", document))
		},
		signAsReferrer,
	},
	"bundle": {
		256<<10 - 2000,
		func(r *rig, f *front, image digest.Digest, document []byte, lie func(string, []byte) http.HandlerFunc) {
			r.reg.PushArtifact("prod/app", "", hostile.Artifact{
				Type:    bundleType,
				Layers:  []hostile.Layer{{MediaType: bundleType, Body: document}},
				Subject: image,
			})
			f.on("blobs/"+digest.FromBytes(document).String(), lie("application/octet-stream", document))
		},
		signUnderTag,
	},
}

// around puts a bomb into a document of the place's own kind.
func around(place string, image digest.Digest, bomb string) []byte {
	switch place {
	case "referrers answer", "fallback index":
		return indexWith(1, `,"x":`+bomb)
	case "payload":
		text := string(hostile.Payload("prod/app", image))
		return []byte(strings.TrimSuffix(text, "}") + `,"x":` + bomb + "}")
	case "bundle":
		return []byte(
			`{"mediaType":"` + bundleType + `","verificationMaterial":{"publicKey":{"hint":"x"},"x":` +
				bomb + `},"dsseEnvelope":{}}`,
		)
	}
	return imageWith(1, `,"x":`+bomb)
}

// CVE-2023-46737, CVE-2024-29902: a bomb where a signature is looked for is no
// signature, and keeps none that lies elsewhere from counting.
func TestSignatureBombs(t *testing.T) {
	for _, place := range sorted(places) {
		t.Run(place, func(t *testing.T) {
			r, f, end := siege(t, patient)
			defer end()
			l := places[place]
			all := bombs(l.size)
			for _, name := range sorted(all) {
				unsigned, signed := r.reg.PushImage("prod/app", ""), r.reg.PushImage("prod/app", "")
				l.sign(r, signed.Digest)
				for _, image := range []hostile.Image{unsigned, signed} {
					l.put(r, f, image.Digest, around(place, image.Digest, all[name]), says)
				}
				g := quiet{
					patience,
					64 << 20,
				}.within(t, func() got { return r.get(manifests("prod/app", unsigned.Digest)) })
				if place == "payload" && slices.Contains(harmless, name) {
					if g.status != 200 { // the key did sign that
						t.Errorf("%s: truly signed, and %d: %.300s", name, g.status, g.body)
					}
				} else if e := g.refused(t, http.StatusForbidden, "DENIED"); len(e.Errors[0].Message) > 2000 {
					t.Errorf("%s: a refusal of %d bytes", name, len(e.Errors[0].Message))
				}
				if g := (quiet{
					patience,
					64 << 20,
				}).within(t, func() got { return r.get(manifests("prod/app", signed.Digest)) }); g.status != 200 {
					t.Errorf("%s: the good signature elsewhere does not count: %d %.300s", name, g.status, g.body)
				}
			}
		})
	}
}

// An image config made to be dear belongs to an artefact that is none.
func TestConfigBombs(t *testing.T) {
	r, _, end := siege(t, patient)
	defer end()
	all := bombs(8<<20 - 2000) // limits.payloadBytes
	for _, name := range sorted(all) {
		payload := hostile.Payload("prod/app", digest.FromString(name))
		config := []byte(
			`{"config":{},"rootfs":{"diff_ids":["` + digest.FromBytes(payload).String() + `"]},"x":` + all[name] + `}`,
		)
		d := r.reg.PushArtifact("prod/app", "", hostile.Artifact{
			ConfigType: hostile.ConfigType, Config: config,
			Layers: []hostile.Layer{{MediaType: hostile.SimpleSigningType, Body: payload}},
		})
		g := quiet{patience, 192 << 20}.within(t, func() got { return r.get(manifests("prod/app", d)) })
		if slices.Contains(harmless, name) && g.status == 200 {
			continue // it says nothing that could be run
		}
		g.refused(t, http.StatusForbidden, "DENIED")
	}
}

// Whatever a body's length is said to be, and however long it goes on: a place
// that answers so counts as broken or empty, never as a reason to wait on.
func TestBodiesThatLieAboutTheirLength(t *testing.T) {
	timeout := pace(400 * time.Millisecond)
	for _, place := range sorted(places) {
		t.Run(place, func(t *testing.T) {
			r, f, end := siege(t, func(o *options) { o.limits = func(l *limits) { l.VerifyTimeout = timeout } })
			defer end()
			l := places[place]
			var all sync.WaitGroup
			for _, name := range sorted(deliveries) {
				unsigned, signed := r.reg.PushImage("prod/app", ""), r.reg.PushImage("prod/app", "")
				for _, image := range []hostile.Image{unsigned, signed} {
					document := around(place, image.Digest, `{"n":"`+name+`"}`)
					if place == "payload" {
						document = hostile.Payload("prod/app", image.Digest, "n", name)
					}
					l.put(r, f, image.Digest, document, deliveries[name])
				}
				l.sign(r, signed.Digest)
				all.Go(func() {
					start := time.Now()
					g, err := r.try(t.Context(), http.MethodGet, manifests("prod/app", unsigned.Digest))
					if took := time.Since(start); err != nil || took > timeout+2*time.Second {
						t.Errorf("%s: %v after %s", name, err, took)
					}
					if g.status != 403 && g.status != 503 {
						t.Errorf("%s: %d %.300s", name, g.status, g.body)
					}
					if g, err := r.try(
						t.Context(),
						http.MethodGet,
						manifests("prod/app", signed.Digest),
					); err != nil ||
						g.status != 200 {
						t.Errorf(
							"%s: the good signature elsewhere does not count: %d %v %.300s",
							name,
							g.status,
							err,
							g.body,
						)
					}
				})
			}
			all.Wait()
		})
	}
	t.Run("manifest", func(t *testing.T) {
		r, f, end := siege(t, func(o *options) { o.limits = func(l *limits) { l.VerifyTimeout = timeout } })
		defer end()
		for i, name := range sorted(deliveries) {
			tag := fmt.Sprint("v", i)
			f.on("manifests/"+tag, deliveries[name](hostile.ImageType, imageWith(1, "")))
			g := quiet{timeout, 64 << 20}.within(t, func() got { return r.get(manifests("prod/app", tag)) })
			if g.status < 400 {
				t.Errorf("%s: %d %.300s", name, g.status, g.body)
			}
		}
	})
	t.Run("listing", func(t *testing.T) {
		r, f, end := siege(t, func(o *options) { o.limits = func(l *limits) { l.VerifyTimeout = timeout } })
		defer end()
		d := digest.FromString("x").String()
		for _, name := range sorted(deliveries) {
			f.on("referrers/"+d, deliveries[name](hostile.IndexType, indexWith(1, "")))
			f.on("tags/list", deliveries[name]("application/json", []byte(`{"name":"prod/app","tags":["a"]}`)))
			for _, path := range []string{"referrers/" + d, "tags/list"} {
				g := quiet{timeout, 64 << 20}.within(t, func() got { return r.get("/v2/reg.example/prod/app/" + path) })
				if g.status < 400 {
					t.Errorf("%s, %s: %d %.300s", path, name, g.status, g.body)
				}
			}
		}
	})
}

// The same for the token a registry sends the gate for, and for tokens that are
// no tokens.
func TestTokenAnswersAreBounded(t *testing.T) {
	timeout := pace(400 * time.Millisecond)
	r, f, end := siege(t, func(o *options) { o.limits = func(l *limits) { l.VerifyTimeout = timeout } })
	defer end()
	answers := map[string]http.HandlerFunc{
		"a token of 8 MiB": says("application/json", []byte(`{"token":"`+strings.Repeat("x", 8<<20)+`"}`)),
		"stalls":           func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() },
	}
	for name, deliver := range deliveries {
		answers[name] = deliver("application/json", []byte(`{"token":"x"}`))
	}
	for name, bomb := range bombs(4 << 20) {
		answers[name] = says("application/json", []byte(`{"x":`+bomb+`,"token":"x"}`))
	}
	var mu sync.Mutex
	var answer http.HandlerFunc
	realm := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		a := answer
		mu.Unlock()
		a(w, req)
	}))
	t.Cleanup(realm.Close)
	t.Cleanup(realm.CloseClientConnections)
	for i, name := range sorted(answers) {
		mu.Lock()
		answer = answers[name]
		mu.Unlock()
		repo := fmt.Sprint("prod/token", i) // tokens are a repository's
		f.on("manifests/v1", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Www-Authenticate", `Bearer realm="`+realm.URL+`",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		})
		g := quiet{timeout, 16 << 20}.within(t, func() got { return r.get(manifests(repo, "v1")) })
		if g.status < 400 {
			t.Errorf("%s: %d", name, g.status)
		}
	}
	realm.CloseClientConnections()
}

// many is n descriptors of artefacts that exist nowhere.
func many(from, n int) string {
	var list []string
	for i := range n {
		list = append(
			list,
			fmt.Sprintf(
				`{"mediaType":%q,"digest":%q,"size":500,"artifactType":%q}`,
				hostile.ImageType,
				digest.FromString(fmt.Sprint(from+i)),
				hostile.SignatureType,
			),
		)
	}
	return strings.Join(list, ",")
}

// CVE-2023-46737, CVE-2023-33957: floods of referrers and of signatures cost a
// bounded number of questions; the refusal says what was not examined; and a
// signature in another place is found all the same.
func TestFloodsAreBoundedAndStarveNoOtherSource(t *testing.T) {
	r, f, end := siege(t, patient)
	defer end()
	for name, flood := range map[string]struct {
		rounds int // requests upstream at most
		lay    func(image digest.Digest)
		sign   func(r *rig, image digest.Digest)
		note   string
	}{
		"10,000 referrers in one page": {80, func(image digest.Digest) {
			f.on("referrers/"+image.String(), says(hostile.IndexType, []byte(`{"schemaVersion":2,"manifests":[`+many(0, 10_000)+`]}`)))
		}, signUnderTag, "limits.signatures"},
		"referrers paged for ever": {80, func(image digest.Digest) {
			page := 0
			f.on("referrers/"+image.String(), func(w http.ResponseWriter, req *http.Request) {
				page++
				w.Header().Set("Link", fmt.Sprintf(`<%s?page=%d>; rel="next"`, req.URL.Path, page))
				says(hostile.IndexType, []byte(`{"schemaVersion":2,"manifests":[`+many(page*10, 10)+`]}`))(w, req)
			})
		}, signUnderTag, "more referrers than are examined"},
		"referrers paged in a circle, empty": {20, func(image digest.Digest) {
			f.on("referrers/"+image.String(), func(w http.ResponseWriter, req *http.Request) {
				w.Header().Set("Link", `<`+req.URL.Path+`>; rel="next"`)
				says(hostile.IndexType, []byte(`{"schemaVersion":2,"manifests":[]}`))(w, req)
			})
		}, signUnderTag, "more referrers than are examined"},
		"10,000 entries of the fallback index": {80, func(image digest.Digest) {
			f.on("manifests/"+hostile.FallbackTag(image), says(hostile.IndexType, []byte(`{"schemaVersion":2,`+
				`"manifests":[`+many(0, 5_000)+`]}`)))
		}, signUnderTag, "limits.signatures"},
		"64 referrers of 64 layers each": {64 + 64 + 20, func(image digest.Digest) {
			payload := hostile.Payload("prod/app", image)
			for range 64 {
				r.reg.PushArtifact("prod/app", "", hostile.Artifact{
					Type:       hostile.SignatureType,
					ConfigType: hostile.SignatureType,
					Subject:    image,
					Layers:     bytesOf(64, hostile.SignatureLayer(payload, newKey(t))),
				})
			}
		}, signUnderTag, "limits.signatures"},
		"10,000 layers under the .sig tag": {64 + 20, func(image digest.Digest) {
			layer := fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":2}`, hostile.SimpleSigningType, r.reg.PushBlob("prod/app", []byte("{}")))
			f.on("manifests/"+hostile.SignatureTag(image), says(hostile.ImageType, []byte(`{"schemaVersion":2,`+
				`"layers":[`+strings.TrimSuffix(strings.Repeat(layer+",", 7_000), ",")+`]}`)))
		}, signAsReferrer, "limits.signatures"},
		"signatures of 256 KiB, more than limits.verdictBytes": {64 + 20, func(image digest.Digest) {
			var layers []hostile.Layer
			for i := range 64 {
				layers = append(layers, hostile.Layer{
					MediaType: bundleType,
					Body:      bytes.Repeat([]byte{byte(i)}, 256<<10),
				})
			}
			r.reg.PushArtifact("prod/app", "", hostile.Artifact{Type: bundleType, Layers: layers, Subject: image})
		}, signUnderTag, "the referrers API holds more than 4096 KiB, its share of limits.verdictBytes"},
		"a signature larger than any is": {20, func(image digest.Digest) {
			r.reg.PushArtifact("prod/app", hostile.SignatureTag(image), hostile.Artifact{Layers: []hostile.Layer{
				{MediaType: hostile.SimpleSigningType, Digest: digest.FromString("huge"), Size: 1 << 40},
			}})
		}, signAsReferrer, "larger than any is"},
		"sizes that overflow": {20, func(image digest.Digest) {
			layer := fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":9223372036854775807}`, hostile.SimpleSigningType, digest.FromString("x"))
			f.on("manifests/"+hostile.SignatureTag(image), says(hostile.ImageType, []byte(`{"schemaVersion":2,`+
				`"layers":[`+layer+`,`+layer+`,`+layer+`]}`)))
		}, signAsReferrer, "larger than any is"},
	} {
		t.Run(name, func(t *testing.T) {
			unsigned, signed := r.reg.PushImage("prod/app", ""), r.reg.PushImage("prod/app", "")
			flood.lay(unsigned.Digest)
			flood.lay(signed.Digest)
			flood.sign(r, signed.Digest)
			total := func() (n int) {
				f.mu.Lock()
				defer f.mu.Unlock()
				for _, c := range f.asked {
					n += c
				}
				return n
			}
			before := total()
			g := quiet{
				patience,
				64 << 20,
			}.within(t, func() got { return r.get(manifests("prod/app", unsigned.Digest)) })
			if e := g.refused(
				t,
				http.StatusForbidden,
				"DENIED",
			); !strings.Contains(e.Errors[0].Message, flood.note) ||
				strings.Contains(e.Errors[0].Message, "no signature found") {
				t.Errorf("the refusal does not say %q: %.1000s", flood.note, e.Errors[0].Message)
			}
			if n := total() - before; n > flood.rounds {
				t.Errorf("%d requests upstream, want %d at most", n, flood.rounds)
			}
			quiet{
				patience,
				64 << 20,
			}.within(t, func() got { return r.get(manifests("prod/app", signed.Digest)) }).served(t, signed.Manifest)
			f.mu.Lock()
			clear(f.lies)
			f.mu.Unlock()
		})
	}
}

// der writes one DER element; contents follow each other.
func der(tag byte, contents ...[]byte) []byte {
	body := bytes.Join(contents, nil)
	length := []byte{byte(len(body))}
	if len(body) > 127 {
		length = nil
		for n := len(body); n > 0; n >>= 8 {
			length = append([]byte{byte(n)}, length...)
		}
		length = append([]byte{0x80 | byte(len(length))}, length...)
	}
	return append(append([]byte{tag}, length...), body...)
}

// hugeCertificate is a well-formed certificate whose RSA key has this many
// bits. Whoever verifies with it is busy for seconds.
func hugeCertificate(bits int) []byte {
	modulus := append([]byte{0}, bytes.Repeat([]byte{0xff}, bits/8)...)
	exponent := []byte{0x7f, 0xff, 0xff, 0xff}
	null := der(5)
	rsa := der(0x30, der(6, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1}), null)
	signs := der(0x30, der(6, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11}), null)
	name := der(0x30, der(0x31, der(0x30, der(6, []byte{0x55, 4, 3}), der(0x0c, []byte("x")))))
	validity := der(0x30, der(0x17, []byte("200101000000Z")), der(0x17, []byte("490101000000Z")))
	key := der(0x30, rsa, der(3, append([]byte{0}, der(0x30, der(2, modulus), der(2, exponent))...)))
	toBeSigned := der(0x30, der(0xa0, der(2, []byte{2})), der(2, []byte{1}), signs, name, validity, name, key)
	return der(0x30, toBeSigned, signs, der(3, append([]byte{0}, bytes.Repeat([]byte{1}, bits/8)...)))
}

// Section 6: before any crypto. What a key authority does not use costs it
// nothing: certificates of half a million bits, heaps of log entries and
// timestamps, signatures longer than any key makes.
func TestMaterialOfNoUseCostsNothing(t *testing.T) {
	certificate := hugeCertificate(500_000)
	if c, err := x509.ParseCertificate(certificate); err != nil || c.PublicKey.(*rsa.PublicKey).N.BitLen() != 500_000 {
		t.Fatal("the certificate is not the bomb it should be: ", err)
	}
	text := base64.StdEncoding.EncodeToString(certificate)
	pemText := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}))
	entry := `{"logIndex":"1","logId":{"keyId":"eA=="},"kindVersion":{"kind":"dsse","version":"0.0.1"},` +
		`"integratedTime":"1","canonicalizedBody":"` +
		base64.StdEncoding.EncodeToString(
			[]byte(
				`{"apiVersion":"0.0.1","kind":"dsse","spec":{"signatures":[{"verifier":"`+base64.StdEncoding.EncodeToString([]byte(pemText))[:4000]+`"}]}}`,
			),
		) + `"}`
	stamp := `{"signedTimestamp":"` + text[:4000] + `"}`
	r, _, end := siege(t, patient)
	defer end()
	statement := func(image digest.Digest) string {
		return base64.StdEncoding.EncodeToString(
			[]byte(
				`{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"` +
					image.Encoded() + `"}}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}`,
			),
		)
	}
	bundle := func(image digest.Digest, material, sig string) hostile.Layer {
		return hostile.Layer{
			MediaType: bundleType,
			Body: []byte(`{"mediaType":"` + bundleType + `","verificationMaterial":{` + material +
				`},"dsseEnvelope":{"payload":"` +
				statement(image) + `","payloadType":"application/vnd.in-toto+json","signatures":[` + sig + `]}}`),
		}
	}
	short := `{"sig":"eA=="}`
	long := `{"sig":"` + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 64<<10)) + `"}`
	hint := `"publicKey":{"hint":"x"}`
	for name, make := range map[string]func(image digest.Digest) hostile.Layer{
		"certificate": func(d digest.Digest) hostile.Layer { return bundle(d, `"certificate":{"rawBytes":"`+text+`"}`, short) },
		"chain": func(d digest.Digest) hostile.Layer {
			return bundle(d, `"x509CertificateChain":{"certificates":[{"rawBytes":"`+text+`"},{"rawBytes":"`+text+`"}]}`, short)
		},
		"its own key": func(d digest.Digest) hostile.Layer { return bundle(d, `"publicKey":{"hint":"`+text+`"}`, short) },
		"32 entries": func(d digest.Digest) hostile.Layer {
			return bundle(d, hint+`,"tlogEntries":[`+strings.TrimSuffix(strings.Repeat(entry+",", 32), ",")+`]`, short)
		},
		"4 entries": func(d digest.Digest) hostile.Layer {
			return bundle(d, hint+`,"tlogEntries":[`+strings.TrimSuffix(strings.Repeat(entry+",", 4), ",")+`]`, short)
		},
		"32 timestamps": func(d digest.Digest) hostile.Layer {
			return bundle(d, hint+`,"timestampVerificationData":{"rfc3161Timestamps":[`+strings.TrimSuffix(strings.Repeat(stamp+",", 32), ",")+`]}`, short)
		},
		"64 KiB of RSA": func(d digest.Digest) hostile.Layer { return bundle(d, hint, long) },
		"2,000 signatures": func(d digest.Digest) hostile.Layer {
			return bundle(d, hint, strings.TrimSuffix(strings.Repeat(`{"sig":"`+base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 70))+`"},`, 2000), ","))
		},
		"legacy, certificate": func(d digest.Digest) hostile.Layer {
			l := hostile.SignatureLayer(hostile.Payload("prod/app", d), newKey(t))
			l.Annotations["dev.sigstore.cosign/certificate"], l.Annotations["dev.sigstore.cosign/chain"] = pemText, pemText
			return l
		},
		"legacy, 64 KiB of RSA": func(d digest.Digest) hostile.Layer {
			return hostile.Layer{
				MediaType: hostile.SimpleSigningType,
				Body:      hostile.Payload("prod/app", d),
				Annotations: map[string]string{
					"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 64<<10)),
				},
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			unsigned, signed := r.reg.PushImage("prod/app", ""), r.reg.PushImage("prod/app", "")
			for _, image := range []hostile.Image{unsigned, signed} {
				for range 20 {
					r.reg.PushArtifact("prod/app", "", hostile.Artifact{
						Type:       bundleType,
						ConfigType: hostile.SignatureType,
						Layers:     []hostile.Layer{make(image.Digest)},
						Subject:    image.Digest,
					})
				}
			}
			r.reg.Sign("prod/app", signed.Digest, r.key)
			start := time.Now()
			g := quiet{
				patience,
				96 << 20,
			}.within(t, func() got { return r.get(manifests("prod/app", unsigned.Digest)) })
			g.refused(t, http.StatusForbidden, "DENIED")
			if took := time.Since(start); took > pace(3*time.Second) {
				t.Errorf("20 of them took %s", took)
			}
			r.get(manifests("prod/app", signed.Digest)).served(t, signed.Manifest)
		})
	}
}

// Section 7: a layer that thousands of images share. While all of them are
// refused the answer comes in time and is a refusal or could-not-tell; when
// trust is back the layer is served again.
func TestThousandsOfParentsOfOneLayer(t *testing.T) {
	const images = 2000
	r, _, end := siege(t, patient)
	defer end()
	layer := random(1000)
	shared := digest.FromBytes(layer)
	for batch := range images / 100 {
		var all sync.WaitGroup
		var list []hostile.Image
		for range 100 {
			image := r.reg.PushImage("prod/app", "", layer)
			r.reg.Sign("prod/app", image.Digest, r.key)
			list = append(list, image)
		}
		for worker := range 25 {
			all.Go(func() {
				for i := worker; i < len(list); i += 25 {
					if g, err := r.try(
						t.Context(),
						http.MethodGet,
						manifests("prod/app", list[i].Digest),
					); err != nil ||
						g.status != 200 {
						t.Errorf("image %d.%d: %d %v", batch, i, g.status, err)
					}
				}
			})
		}
		all.Wait()
		r.reg.Forget() // its log is searched from the start
	}
	r.get(blobs("prod/app", shared)).served(t, layer)
	good := r.key
	r.key = newKey(t)
	r.reload()
	q := quiet{patience, 64 << 20}
	ends := 0
	for range 5 {
		g := q.within(t, func() got { return r.get(blobs("prod/app", shared)) })
		if g.status != 403 && g.status != 503 {
			t.Fatalf("trust is withdrawn, and the layer: %d", g.status)
		}
		if g.status == 403 {
			ends++
		}
		time.Sleep(20 * time.Millisecond) // memory takes what it is given a little later
	}
	if ends == 0 {
		t.Error("asked five times, it still could not tell")
	}
	old := r.cache
	r.restart() // and with nothing in memory
	old.Close() // it has goroutines of its own
	if g := q.within(t, func() got { return r.get(blobs("prod/app", shared)) }); g.status != 403 && g.status != 503 {
		t.Fatalf("trust is withdrawn, and the layer: %d", g.status)
	}
	r.key = good
	r.reload()
	q.within(t, func() got { return r.get(blobs("prod/app", shared)) }).served(t, layer)
}

// Promise 7: with every verdict in flight stalled, and every answer that may be
// read at once too, what memory answers is served as if nothing were.
func TestStalledVerdictsHoldUpNoWarmPull(t *testing.T) {
	timeout := pace(600 * time.Millisecond)
	for name, stall := range map[string]hostile.Trick{
		"no answer": hostile.StallAtOnce,
		"no body":   hostile.StallAfterHeaders,
	} {
		t.Run(name, func(t *testing.T) {
			r, _, end := siege(t, func(o *options) {
				o.limits = func(l *limits) { l.VerdictsInFlight, l.VerifyTimeout = 4, timeout }
			})
			defer end()
			warm, cold := r.signed("warm"), r.reg.PushImage("prod/app", "cold")
			for range 3 {
				r.get(manifests("prod/app", "warm")).served(t, warm.Manifest)
				r.get(blobs("prod/app", warm.Layers[0])).served(t, r.reg.Blob("prod/app", warm.Layers[0]))
				time.Sleep(10 * time.Millisecond)
			}
			slowest := func() (most time.Duration) {
				for range 10 {
					for _, path := range []string{
						manifests("prod/app", warm.Digest),
						manifests("prod/app", "warm"),
						blobs("prod/app", warm.Layers[0]),
					} {
						start := time.Now()
						if g := r.get(path); g.status != 200 {
							t.Errorf("%s: %d", path, g.status)
						}
						most = max(most, time.Since(start))
					}
				}
				return most
			}
			var all sync.WaitGroup
			var stalled []string
			for i := range 100 { // more than upstream answers may be read at once
				image := r.reg.PushImage("prod/app", fmt.Sprint("stalled", i))
				r.reg.Sign("prod/app", image.Digest, newKey(t)) // else a 404's headers are answer enough
				stalled = append(stalled, image.Digest.String())
				r.reg.On(stall.At(hostile.For(hostile.SignatureTag(image.Digest))))
				if i%2 == 0 { // its manifest too
					r.reg.On(stall.At(hostile.For(image.Digest)))
				}
			}
			for _, d := range stalled {
				all.Go(func() {
					start := time.Now()
					g, err := r.try(t.Context(), http.MethodGet, manifests("prod/app", d))
					if took := time.Since(start); err != nil || g.status != 503 || took > timeout+2*time.Second {
						t.Errorf("a stalled one: %d %v after %s", g.status, err, took)
					}
				})
			}
			time.Sleep(100 * time.Millisecond)
			if most := slowest(); most > pace(500*time.Millisecond) {
				t.Errorf("a warm pull took %s", most)
			}
			if g := r.get(manifests("prod/app", cold.Digest)); g.status != 503 && g.status != 403 { // it is unsigned
				t.Errorf("a cold pull meanwhile: %d %.300s", g.status, g.body)
			}
			all.Wait()
			r.mend()
			r.clock.advance(time.Minute)
			r.get(manifests("prod/app", cold.Digest)).refused(t, http.StatusForbidden, "DENIED")
		})
	}
}

// from is a client with an address of its own.
func (r *rig) from(addr string) *http.Client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
	transport := &http.Transport{DialContext: dialer.DialContext}
	r.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: pace(15 * time.Second)}
}

// limits.clientMisses is one address's: another is served meanwhile, whatever
// the first one says of itself.
func TestOneAddressSpendsNobodyElsesMisses(t *testing.T) {
	r := newRig(t, func(o *options) { o.limits = func(l *limits) { l.ClientMisses = 5 } })
	greedy, other := r.from("127.0.0.2"), r.from("127.0.0.3")
	ask := func(client *http.Client, path string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"X-Forwarded-For", "Forwarded", "X-Real-Ip", "True-Client-Ip", "User-Agent"} {
			req.Header.Set(name, "192.0.2."+strconv.Itoa(int(random(1)[0])))
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode, resp.Header.Get("Retry-After")
	}
	image := r.signed("v1")
	for i := range 40 {
		status, after := ask(greedy, manifests("prod/app", digest.FromString(fmt.Sprint(i))))
		if i < 5 && status != 404 || i >= 5 && status != 429 {
			t.Fatalf("miss %d: %d", i, status)
		}
		if n, err := strconv.Atoi(after); status == 429 && (err != nil || n < 1 || n > 60) {
			t.Fatalf("Retry-After %q", after)
		}
	}
	if n := r.reg.Count(hostile.Is(hostile.Manifests)); n != 5 {
		t.Errorf("%d requests upstream, want 5", n)
	}
	if status, _ := ask(other, manifests("prod/app", "v1")); status != 200 {
		t.Errorf("another address: %d", status)
	}
	for range 10 { // what memory answers costs nothing
		if status, _ := ask(greedy, manifests("prod/app", image.Digest)); status != 200 {
			t.Errorf("what memory has: %d", status)
		}
	}
}

// Listings are asked of the upstream each time: they are misses too.
func TestListingsCountAsMisses(t *testing.T) {
	r := newRig(t, func(o *options) { o.limits = func(l *limits) { l.ClientMisses = 5 } })
	for _, path := range []string{"tags/list", "referrers/" + digest.FromString("x").String()} {
		r.reg.Forget()
		for range 20 {
			r.get("/v2/reg.example/prod/app/" + path)
		}
		if n := len(r.reg.Requests()); n > 10 {
			t.Errorf("%s: a client that may miss 5 times a minute caused %d requests upstream", path, n)
		}
	}
}

// A flood of tags that do not exist: each is asked for once in a while, however
// often and by however many it is asked of the gate.
func TestFloodOfMissingTagsIsBounded(t *testing.T) {
	r, f, end := siege(t)
	defer end()
	var names []string
	for range 20 {
		names = append(names, "gone-"+random16())
	}
	for range 10 {
		var all sync.WaitGroup
		for _, name := range names {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				all.Go(func() {
					if g, err := r.try(
						t.Context(),
						method,
						manifests("prod/app", name),
					); err != nil ||
						g.status != 404 {
						t.Errorf("%s %s: %d %v", method, name, g.status, err)
					}
				})
			}
		}
		all.Wait()
		time.Sleep(5 * time.Millisecond)
	}
	total := 0
	for _, name := range names {
		total += f.count("manifests/" + name)
	}
	if total > 3*len(names) {
		t.Errorf("%d names asked for 400 times cost %d requests upstream", len(names), total)
	}
	image := r.signed(names[0]) // pushed at last: a 404 is believed for three seconds
	r.clock.advance(4 * time.Second)
	r.get(manifests("prod/app", names[0])).served(t, image.Manifest)
}

// A 404 that memory answers asks no upstream, and is no miss.
func TestRepeatedMissingTagIsOneMiss(t *testing.T) {
	r := newRig(t, func(o *options) { o.limits = func(l *limits) { l.ClientMisses = 10 } })
	r.get(manifests("prod/app", "gone")).refused(t, http.StatusNotFound, "MANIFEST_UNKNOWN")
	time.Sleep(20 * time.Millisecond)
	for i := range 20 {
		if g := r.get(manifests("prod/app", "gone")); g.status != 404 {
			t.Fatalf("asked again %d times: %d, after %d requests upstream", i+1, g.status, len(r.reg.Requests()))
		}
	}
}

// heapDuring is the most heap in use, with little garbage among it, while work
// runs, beyond what was in use before.
func heapDuring(work func()) uint64 {
	defer debug.SetGCPercent(debug.SetGCPercent(50))
	runtime.GC()
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	inUse := func() uint64 { // without stopping the world, as ReadMemStats does
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	before := inUse()
	stop, peak := make(chan struct{}), make(chan uint64)
	go func() {
		most := before
		for {
			select {
			case <-stop:
				peak <- most - before
				return
			case <-time.After(3 * time.Millisecond):
				most = max(most, inUse())
			}
		}
	}()
	work()
	close(stop)
	return <-peak
}

// Promise 7: reading is bounded, not only fetching. What many bombs take at
// once, beside their bytes, does not grow with their number.
func TestManyBombsAtOnceTakeBoundedMemory(t *testing.T) {
	if pace(1) > 1 {
		t.Skip("the race detector makes it too slow to be quick, and takes memory of its own")
	}
	const clients = 30
	r, f, end := siege(t, func(o *options) { o.limits = func(l *limits) { l.VerifyTimeout = 20 * time.Second } })
	defer end()
	r.client.Timeout = 25 * time.Second    // memory is measured here, not time
	keys := bombs(1 << 20)["keys in bulk"] // a quarter of what may come, for the test to be quick
	image, referrers := imageWith(1, `,"x":`+keys), indexWith(1, "")
	referrers = bytes.Replace(
		referrers,
		[]byte(`"size":2`),
		[]byte(`"size":2,"annotations":`+strings.ReplaceAll(keys, ":0", `:""`)),
		1,
	)
	for name, c := range map[string]struct {
		bytes int
		lay   func(i int) string
	}{
		"manifest": {len(image), func(i int) string {
			f.on(fmt.Sprint("manifests/bomb", i), says(hostile.ImageType, image))
			return manifests("prod/app", fmt.Sprint("bomb", i))
		}},
		"referrers": {len(referrers), func(i int) string {
			image := r.reg.PushImage("prod/app", "")
			f.on("referrers/"+image.Digest.String(), says(hostile.IndexType, referrers))
			return manifests("prod/app", image.Digest)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var paths []string
			for i := range clients {
				paths = append(paths, c.lay(i))
			}
			var slowest atomic.Int64
			load := func(paths []string) uint64 {
				return heapDuring(func() {
					var all sync.WaitGroup
					for _, path := range paths {
						all.Go(func() {
							start := time.Now()
							if g, err := r.try(t.Context(), http.MethodGet, path); err != nil || g.status == 200 {
								t.Errorf("%d %v", g.status, err)
							}
							slowest.Store(max(slowest.Load(), int64(time.Since(start))))
						})
					}
					all.Wait()
				})
			}
			few := load(paths[:2])
			most := load(paths[2:])
			t.Logf(
				"2 at once: %d MiB, %d at once: %d MiB, slowest %s",
				few>>20,
				len(paths)-2,
				most>>20,
				time.Duration(slowest.Load()),
			)
			if limit := 3*few + uint64(2*len(paths)*c.bytes); most > limit {
				t.Errorf(
					"2 at once take %d MiB of heap, %d take %d MiB, at most %d may be",
					few>>20,
					len(paths)-2,
					most>>20,
					limit>>20,
				)
			}
		})
	}
}
