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
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
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
	t    *testing.T
	key  *ecdsa.PrivateKey
	reg  *hostile.Registry
	gate *verify.Gate

	opened atomic.Int64 // connections to the registry, so far
}

func newBench(t *testing.T, change func(*verify.Limits)) *bench {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, key: key, reg: hostile.New()}
	server := httptest.NewUnstartedServer(b.reg)
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
		VerifyTimeout:    15 * time.Second,
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
	"10,000 tokens": func(n int) string {
		return costEntries(
			n-20<<10,
			1,
		) + `,"timestampVerificationData":{"rfc3161Timestamps":[` + strings.TrimSuffix(
			strings.Repeat(`{},`, 4900),
			",",
		) + `]}`
	},
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
	stuff := fill(250 << 10)
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
				strings.Repeat("x", 250<<10),
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

// pull makes a cold verdict and says how long it took.
func (b *bench) pull(d digest.Digest, want verify.Outcome) (time.Duration, verify.Verdict) {
	start := time.Now()
	_, v, err := b.gate.Manifest(b.t.Context(), policy.Repository{Host: "reg.example", Path: costRepo}.At(d), policy.Client{})
	took := time.Since(start)
	if err != nil || v.Outcome != want {
		b.t.Errorf("%s: %s, %v, %v; want %s", d, v.Outcome, v.Reasons, err, want)
	}
	return took, v
}

// cpu is what this process has used so far, user and system.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// underRace reports whether this binary has the race detector, which makes
// everything many times slower.
func underRace() bool {
	info, ok := debug.ReadBuildInfo()
	return ok &&
		slices.ContainsFunc(
			info.Settings,
			func(s debug.BuildSetting) bool { return s.Key == "-race" && s.Value == "true" },
		)
}

func median(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)/2]
}

// TestHostileVerdictCostsLittle: whoever may push signatures to a repository
// buys with the 5 MiB that one place may hold less than 0.3 s of CPU, registry
// and HTTP on both ends included. The test does not run beside others: CPU is the process's.
func TestHostileVerdictCostsLittle(t *testing.T) {
	for name, fill := range material {
		for _, c := range []struct {
			name       string
			verdict    int64 // limits.verdictBytes
			everywhere bool
			bound      time.Duration
		}{
			{"default limits", 16 << 20, false, 300 * time.Millisecond},
			{"default limits, in all three places", 16 << 20, true, 900 * time.Millisecond},
			{"all 64 examined", 64 << 20, false, 300 * time.Millisecond}, // thrice the bytes
		} {
			if underRace() && c.name != "default limits" {
				continue // nothing could be asserted
			}
			t.Run(name+", "+c.name, func(t *testing.T) {
				b := newBench(t, func(l *verify.Limits) { l.VerdictBytes = c.verdict })
				warmUp, images := b.good(20), b.good(100)
				for _, d := range warmUp {
					b.pull(d, verify.Allowed)
				}
				for attempt := 1; ; attempt++ { // others use this machine too
					bad := b.hostile(fill, c.everywhere)
					b.reg.Forget()
					before := cpu(t)
					took, v := b.pull(bad, verify.Denied)
					spent := cpu(t) - before
					b.reg.Forget()
					before = cpu(t)
					for _, d := range images {
						b.pull(d, verify.Allowed)
					}
					alone := cpu(t) - before
					t.Logf(
						"hostile: %s of CPU in %s; 100 good ones: %s; ratio %.2f; %v",
						spent.Round(time.Millisecond),
						took.Round(time.Millisecond),
						alone.Round(time.Millisecond),
						float64(spent)/float64(alone),
						v.Reasons,
					)
					if spent < c.bound || underRace() {
						return
					}
					if attempt == 3 {
						t.Errorf("one hostile verdict took %s of CPU, want less than %s", spent, c.bound)
						return
					}
					images = b.good(100)
				}
			})
		}
	}
}

// TestHostileVerdictSlowsNobody: what good pulls take while a hostile verdict
// is being made is less than twice what they take alone.
func TestHostileVerdictSlowsNobody(t *testing.T) {
	if underRace() {
		t.Skip("speeds mean nothing under the race detector")
	}
	b := newBench(t, func(*verify.Limits) {})
	for _, d := range b.good(20) {
		b.pull(d, verify.Allowed)
	}
	pulls := func(images []digest.Digest) time.Duration {
		var times []time.Duration
		for _, d := range images {
			took, _ := b.pull(d, verify.Allowed)
			times = append(times, took)
		}
		return median(times)
	}
	for attempt := 1; ; attempt++ {
		first, second := b.good(100), b.good(100)
		b.reg.Forget()
		alone := pulls(first)
		var bad []digest.Digest
		for range 10 {
			bad = append(bad, b.hostile(material["32 log entries"], false))
		}
		b.reg.Forget()
		stop, ended := make(chan struct{}), sync.WaitGroup{}
		verdicts := 0
		ended.Go(func() { // one after the other, for as long as the good pulls last
			for _, d := range bad {
				select {
				case <-stop:
					return
				default:
					b.pull(d, verify.Denied)
					verdicts++
				}
			}
		})
		beside := pulls(second)
		close(stop)
		ended.Wait()
		t.Logf("median of 100 good pulls: %s alone, %s beside %d hostile verdicts", alone, beside, verdicts)
		if beside < 2*alone {
			return
		}
		if attempt == 3 {
			t.Errorf("a good pull takes %s alone and %s beside a hostile verdict", alone, beside)
			return
		}
	}
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
