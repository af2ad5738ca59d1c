//go:build unix

package verify_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy/upstream"
	"github.com/pullgate/pullgate/test/hostile"
	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/facts"
)

// bench is one gate with a registry behind it, for measuring.
type bench struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	reg  *hostile.Registry
	gate *verify.Gate

	opened atomic.Int64 // connections to the registry, so far
	sent   atomic.Int64 // bytes of its answers' bodies, so far
}

// countedBody adds the length of an answer's body to sent.
type countedBody struct {
	http.ResponseWriter
	sent *atomic.Int64
}

func (c countedBody) Write(body []byte) (int, error) {
	n, err := c.ResponseWriter.Write(body)
	c.sent.Add(int64(n))
	return n, err
}

func (c countedBody) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func newBench(t testing.TB, change func(*verify.Limits)) *bench {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, key: key, reg: hostile.New()}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.reg.ServeHTTP(countedBody{w, &b.sent}, r)
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			b.opened.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	base, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	up, err := upstream.New(upstream.Config{Host: "reg.example", URL: base})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(
		"[{name: p, images: [\"reg.example/**\"], authorities: [{key: %q}]}]",
		pem.EncodeToMemory(&pem.Block{
			Type:  "PUBLIC KEY",
			Bytes: public,
		}),
	)
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	policies, problems := policy.Load(policy.Input{ConfigFile: "test", Inline: doc.Content[0]})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	store, err := facts.OpenBolt(t.TempDir(), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	cache, err := verify.NewCache(10_000, 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cache.Close)
	limits := verify.Limits{
		ManifestBytes:    4 << 20,
		Descriptors:      2000,
		PayloadBytes:     8 << 20,
		VerdictBytes:     16 << 20,
		Signatures:       64,
		VerdictsInFlight: 64,
		VerifyTimeout:    time.Minute,
		ClientMisses:     1_000_000,
	}
	change(&limits)
	b.gate, err = verify.New(verify.Config{
		Policies: policies, Store: store, Cache: cache, TTL: time.Hour, DenyTTL: time.Minute, Limits: limits,
		Registry: func(host string) (verify.Registry, bool) { return up, host == "reg.example" },
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const costRepo = "acme/app"

// good pushes n signed images.
func (b *bench) good(n int) []digest.Digest {
	var list []digest.Digest
	for range n {
		image := b.reg.PushImage(costRepo, "")
		b.reg.Sign(costRepo, image.Digest, b.key)
		list = append(list, image.Digest)
	}
	return list
}

// material is what a hostile bundle is filled with, about n bytes.
var material = map[string]func(n int) string{
	"32 log entries": func(n int) string { return costEntries(n, 32) },
	"4 log entries":  func(n int) string { return costEntries(n, 4) },
	"10,000 tokens":  func(n int) string { return costEntries(n-20<<10, 1) + costTimestamps(4900) },
	"1,000 tokens":   func(n int) string { return costEntries(n-2<<10, 1) + costTimestamps(450) },
}

// costTimestamps are as many empty timestamps, of two tokens each.
func costTimestamps(count int) string {
	return `,"timestampVerificationData":{"rfc3161Timestamps":[` +
		strings.TrimSuffix(strings.Repeat(`{},`, count), ",") + `]}`
}

// costEntries are log entries of n bytes in all, in forms that parse.
func costEntries(n, count int) string {
	body := base64.StdEncoding.EncodeToString([]byte(strings.Repeat(`{"apiVersion":"0.0.1"}`, n/count/22*3/4)))
	return `"tlogEntries":[` + strings.TrimSuffix(
		strings.Repeat(
			`{"logIndex":"1","integratedTime":"1","kindVersion":{"kind":"dsse","version":"0.0.1"},`+
				`"canonicalizedBody":"`+body+`"},`,
			count,
		),
		",",
	) + `]`
}

// hostileBundle is about the largest that may be, in bytes.
const hostileBundle = 250 << 10

// hostile pushes an image with 64 bundles near the largest size there may be,
// each different, none signed by the key; everywhere lists them under the
// referrers tag as well, and 64 payloads as large under the .sig tag.
func (b *bench) hostile(fill func(n int) string, everywhere bool) digest.Digest {
	const bundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"
	image := b.reg.PushImage(costRepo, "")
	statement := base64.StdEncoding.EncodeToString(
		[]byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"` + image.Digest.Encoded() +
			`"}}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}`),
	)
	signature := make([]byte, 64)
	stuff := fill(hostileBundle)
	var referrers []digest.Digest
	var payloads []hostile.Layer
	for i := range 64 {
		signature[0] = byte(i)
		body := `{"mediaType":"` + bundleType + `","verificationMaterial":{"publicKey":{"hint":"x"},` +
			stuff + `},"dsseEnvelope":{"payload":"` + statement +
			`","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":"` + base64.StdEncoding.EncodeToString(
			signature,
		) + `"}]}}`
		if len(body) > 256<<10 || len(body) < 200<<10 {
			b.t.Fatalf("a bundle of %d bytes", len(body))
		}
		referrers = append(referrers, b.reg.PushArtifact(costRepo, "", hostile.Artifact{
			Type:   bundleType,
			Layers: []hostile.Layer{{MediaType: bundleType, Body: []byte(body)}}, Subject: image.Digest,
		}))
		if everywhere {
			payload := hostile.Payload(
				costRepo,
				image.Digest,
				"n",
				fmt.Sprint(i),
				"filler",
				strings.Repeat("x", hostileBundle),
			)
			layer := hostile.SignatureLayer(payload, b.key)
			layer.Annotations["dev.cosignproject.cosign/signature"] = base64.StdEncoding.EncodeToString(signature)
			payloads = append(payloads, layer)
		}
	}
	if everywhere {
		b.reg.PushList(costRepo, hostile.FallbackTag(image.Digest), referrers...)
		b.reg.PushArtifact(costRepo, hostile.SignatureTag(image.Digest), hostile.Artifact{Layers: payloads})
	}
	return image.Digest
}

// overPayload is more signatures over one payload than are examined.
const overPayload = 2000

// overOnePayload pushes an image with worthless signatures over one payload, of
// about size bytes.
func (b *bench) overOnePayload(size int) digest.Digest {
	image := b.reg.PushImage(costRepo, "")
	payload := hostile.Payload(costRepo, image.Digest, "filler", strings.Repeat("x", size))
	var layers []hostile.Layer
	for i := range overPayload {
		layer := hostile.SignatureLayer(payload, b.key)
		signature := make([]byte, 72)
		copy(signature, []byte{0x30, 0x46, 0x02, 0x21, 0x00, 0x80}) // of the form that ECDSA gives
		signature[34], signature[35], signature[36] = 0, 0, byte(i)
		signature[37], signature[38], signature[39] = 0x02, 0x21, 0x00
		signature[40], signature[71] = 0x80, byte(i>>8)
		layer.Annotations["dev.cosignproject.cosign/signature"] = base64.StdEncoding.EncodeToString(signature)
		layers = append(layers, layer)
	}
	b.reg.PushArtifact(costRepo, hostile.SignatureTag(image.Digest), hostile.Artifact{Layers: layers})
	return image.Digest
}

// pull makes a cold verdict and says how long it took.
func (b *bench) pull(d digest.Digest, want verify.Outcome) (time.Duration, verify.Verdict) {
	start := time.Now()
	repo := policy.Repository{Host: "reg.example", Path: costRepo}
	_, v, err := b.gate.Manifest(b.t.Context(), repo.At(d), policy.Client{})
	took := time.Since(start)
	if err != nil || v.Outcome != want {
		b.t.Errorf("%s: %s, %v, %v; want %s", d, v.Outcome, v.Reasons, err, want)
	}
	return took, v
}

func median(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)/2]
}

// hostileCases are the places a hostile image's signatures lie in, and what
// the gate may read of them.
var hostileCases = []struct {
	name       string
	verdict    int64 // limits.verdictBytes
	everywhere bool  // in the .sig tag and under the referrers tag as well
	places     int
	candidates int // of one place: as many as its share holds, or limits.signatures
}{
	{"default limits", 16 << 20, false, 1, 16},
	{"default limits, in all three places", 16 << 20, true, 3, 16},
	{"all 64 examined", 64 << 20, false, 1, 64},
}

// share is how many bytes a verdict may read from each place. limits.payloadBytes
// comes on top only where a policy asks for attestations, and this one does not.
func share(verdictBytes int64) int64 { return verdictBytes / 4 }

// TestHostileVerdict counts what a gate reads of a registry full of worthless
// signatures. BenchmarkHostileVerdict measures the time that takes.
func TestHostileVerdict(t *testing.T) {
	for name, fill := range material {
		for _, c := range hostileCases {
			t.Run(name+", "+c.name, func(t *testing.T) {
				b := newBench(t, func(l *verify.Limits) { l.VerdictBytes = c.verdict })
				bad := b.hostile(fill, c.everywhere)

				b.pull(bad, verify.Denied)

				candidates := b.reg.Count(hostile.Is(hostile.Blobs))
				requests := len(b.reg.Requests())
				sent := b.sent.Load()
				t.Logf("%d candidates, %d requests, %d KiB", candidates, requests, sent>>10)

				// Fewer than all of a share is read where the last candidate no longer fits into it.
				if most := c.places * c.candidates; candidates > most || candidates < most/2 {
					t.Errorf("%d candidates were read, want at most %d, and at least half of them", candidates, most)
				}
				// Manifests are small and fit where a candidate does not: limits.signatures bounds them.
				// The image, its .sig tag, the list of referrers and its tag come once.
				if most := c.places*(64+c.candidates) + 4; requests > most {
					t.Errorf("%d requests, want at most %d", requests, most)
				}
				if most := int64(c.places)*share(c.verdict) + 64<<10; sent > most {
					t.Errorf("%d KiB were read, want at most %d KiB", sent>>10, most>>10)
				}
			})
		}
	}
}

// TestSignaturesOverOnePayload counts what a gate reads for many signatures over
// one payload: the payload once, however many they are.
func TestSignaturesOverOnePayload(t *testing.T) {
	for size, want := range map[int]string{100: "1025 signatures", 200 << 10: "21 signatures"} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			b := newBench(t, func(*verify.Limits) {})
			bad := b.overOnePayload(size)

			_, v := b.pull(bad, verify.Denied)

			if n := b.reg.Count(hostile.Is(hostile.Blobs)); n != 1 {
				t.Errorf("%d blobs were read, want one", n)
			}
			if found := v.Reasons[0].Text; !strings.HasPrefix(found, want) {
				t.Errorf("%q, want %s: each reads the payload again, within its place's share", found, want)
			}
		})
	}
}

// TestHostileVerdictsBesideGoodPulls makes good pulls while hostile verdicts are
// made: each has its own outcome. BenchmarkGoodPullBesideHostile measures how
// long the good ones take.
func TestHostileVerdictsBesideGoodPulls(t *testing.T) {
	b := newBench(t, func(*verify.Limits) {})
	good := b.good(20)
	var bad []digest.Digest
	for range 4 {
		bad = append(bad, b.hostile(material["32 log entries"], false))
	}

	var all sync.WaitGroup
	for _, d := range bad {
		all.Go(func() { b.pull(d, verify.Denied) })
	}
	for _, d := range good {
		b.pull(d, verify.Allowed)
	}
	all.Wait()
}

// TestColdAllowsShareConnections: a pull whose .sig tag has decided waits for no
// other look-up, and the next one finds its connection.
func TestColdAllowsShareConnections(t *testing.T) {
	const pulls, late = 30, 200 * time.Millisecond
	b := newBench(t, func(*verify.Limits) {})
	b.reg.On(hostile.Slow(late).At(func(q hostile.Request) bool {
		return q.Kind == hostile.Manifests && strings.HasPrefix(q.Reference, "sha256-") && !hostile.SignatureTags(q)
	}))
	var took []time.Duration
	for _, d := range b.good(pulls) {
		one, _ := b.pull(d, verify.Allowed)
		took = append(took, one)
		time.Sleep(late / 4) // at most a few linger at a time
	}
	if n := b.opened.Load(); n > pulls/2 { // one for each where giving up closes it
		t.Errorf("%d connections for %d pulls", n, pulls)
	}
	if m := median(took); m >= late {
		t.Errorf("a pull takes %s: it waits for a look-up that is not needed", m)
	}
}
