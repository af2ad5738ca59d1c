package proxy_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy/upstream"
	"github.com/pullgate/pullgate/test/hostile"
)

// What others in this field were bitten by, number by number, played against
// the whole gate. Most classes have longer tests elsewhere; this list is here
// to be complete.
//
// Not applicable to a gate that trusts keys:
//   - CVE-2026-24122 (expired intermediate), CVE-2023-25656 (DN parsing),
//     CVE-2024-56138 (revocation), CVE-2024-51491 (CRL cache): no certificate
//     is ever trusted; see GHSA-fx35-mq7g-6g98 below for one that would like to be.
//   - CVE-2026-49834 (one log counted twice), CVE-2026-39984 (another
//     certificate of a timestamp): log entries and timestamps prove nothing
//     here and are thrown away unread; see CVE-2022-23649 and CVE-2024-45395.
//   - CVE-2026-54787 (a key's window ignored): a key in a policy has no window.
//   - CVE-2026-23992, CVE-2026-23991, CVE-2022-29173, CVE-2026-24137 (TUF):
//     nothing is fetched by TUF.
//   - CVE-2024-23332 (an older signed image under the tag): a signature is of
//     bytes and does not age; the design says so under what it does not protect.
//   - CVE-2020-15257 (containerd's shim): there is no shim.

// dsse is a bundle around a payload that key truly signed.
func dsse(t *testing.T, key *ecdsa.PrivateKey, material, payloadType, payload string) []byte {
	t.Helper()
	sum := sha256.Sum256(fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload))
	signature, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Appendf(
		nil,
		`{"mediaType":%q,"verificationMaterial":{%s},"dsseEnvelope":{"payload":%q,"payloadType":%q,`+
			`"signatures":[{"sig":%q}]}}`,
		bundleType,
		material,
		base64.StdEncoding.EncodeToString([]byte(payload)),
		payloadType,
		base64.StdEncoding.EncodeToString(signature),
	)
}

const (
	inToto        = "application/vnd.in-toto+json"
	hintOnly      = `"publicKey":{"hint":"x"}`
	signPredicate = "https://sigstore.dev/cosign/sign/v1"
)

func statementOf(d digest.Digest, predicateType string) string {
	return `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"` +
		d.Encoded() + `"}}],"predicateType":"` + predicateType + `","predicate":{}}`
}

// bundled attaches a bundle to an image.
func (r *rig) bundled(image digest.Digest, bundle []byte) {
	r.reg.PushArtifact("prod/app", "", hostile.Artifact{
		Type:    bundleType,
		Layers:  []hostile.Layer{{MediaType: bundleType, Body: bundle}},
		Subject: image,
	})
}

// layered puts layers under an image's .sig tag.
func (r *rig) layered(image digest.Digest, layers ...hostile.Layer) {
	r.reg.PushArtifact("prod/app", hostile.SignatureTag(image), hostile.Artifact{Layers: layers})
}

// refuses checks that nothing of an image leaves, and why.
func (r *rig) refuses(t *testing.T, image hostile.Image, why string) {
	t.Helper()
	e := r.get(manifests("prod/app", image.Digest)).refused(t, http.StatusForbidden, "DENIED")
	if !strings.Contains(e.Errors[0].Message, why) {
		t.Errorf("the refusal does not say %q: %.500s", why, e.Errors[0].Message)
	}
	r.refusedAt("a layer", blobs("prod/app", image.Layers[0]))
	r.refusedAt("the config", blobs("prod/app", image.Config))
}

// serves is for the positive control: the same thing done well is served.
func (r *rig) serves(t *testing.T, image hostile.Image) {
	t.Helper()
	r.get(manifests("prod/app", image.Digest)).served(t, image.Manifest)
}

// thief is a server that should never be shown a credential.
type thief struct {
	*httptest.Server
	mu   sync.Mutex
	seen []string
}

func newThief(t *testing.T) *thief {
	t.Helper()
	th := &thief{}
	th.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		th.mu.Lock()
		th.seen = append(th.seen, req.Header.Get("Authorization"))
		th.mu.Unlock()
		_, _ = w.Write([]byte(`{"token":"stolen"}`))
	}))
	t.Cleanup(th.Close)
	return th
}

func (th *thief) requests() []string {
	th.mu.Lock()
	defer th.mu.Unlock()
	return th.seen
}

const gatePassword = "the-gates-own-password"

// withCredentials puts the gate's own credentials and a handler before the
// registry.
func (r *rig) withCredentials(t *testing.T, handler func(next http.Handler) http.Handler) {
	t.Helper()
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(gatePassword), 0o600); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler(r.reg))
	t.Cleanup(server.Close)
	r.reach(t, server.URL, nil, gateAuth(t, password))
}

// reach makes the gate ask reg.example at another address.
func (r *rig) reach(t *testing.T, at string, config *tls.Config, auth upstream.Auth) {
	t.Helper()
	base, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	up, err := upstream.New(upstream.Config{Host: "reg.example", URL: base, TLS: config, Auth: auth})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	r.upstreams["reg.example"] = up
	r.reload()
}

func challenges(w http.ResponseWriter, challenge string) {
	w.Header().Set("Www-Authenticate", challenge)
	w.WriteHeader(http.StatusUnauthorized)
}

func TestKnownVulnerabilities(t *testing.T) {
	t.Parallel()
	for name, attack := range map[string]func(t *testing.T, r *rig){
		"CVE-2022-23649 a log entry of another signature makes up for nothing": func(t *testing.T, r *rig) {
			good, bad := r.signed(""), r.reg.PushImage("prod/app", "")
			forged := hostile.SignatureLayer(hostile.Payload("prod/app", bad.Digest), newKey(t))
			genuine := hostile.SignatureLayer(hostile.Payload("prod/app", good.Digest), r.key)
			set := `{"SignedEntryTimestamp":"eA==","Payload":{"body":"` +
				base64.StdEncoding.EncodeToString(genuine.Body) + `","integratedTime":1,"logIndex":1,"logID":"x"}}`
			forged.Annotations["dev.sigstore.cosign/bundle"] = set
			foreign := genuine // the entry's own signature over it, moved here
			foreign.Annotations = map[string]string{
				"dev.sigstore.cosign/bundle":         set,
				"dev.cosignproject.cosign/signature": genuine.Annotations["dev.cosignproject.cosign/signature"],
			}
			r.layered(bad.Digest, forged, foreign)
			r.refuses(t, bad, "none counts")
			r.serves(t, good)
		},
		"CVE-2022-35929 CVE-2022-35930 an attestation is no signature": func(t *testing.T, r *rig) {
			for _, predicate := range []string{
				"https://slsa.dev/provenance/v1",
				"https://cosign.sigstore.dev/attestation/vuln/v1",
				"",
				signPredicate + "/",
				signPredicate + "2",
			} {
				image := r.reg.PushImage("prod/app", "")
				r.bundled(image.Digest, dsse(t, r.key, hintOnly, inToto, statementOf(image.Digest, predicate)))
				r.refuses(t, image, "none counts")
			}
			image := r.reg.PushImage("prod/app", "")
			att := strings.Replace(image.Digest.String(), ":", "-", 1) + ".att"
			r.reg.PushArtifact("prod/app", att, hostile.Artifact{Layers: []hostile.Layer{hostile.SignatureLayer(hostile.Payload("prod/app", image.Digest), r.key)}})
			r.refuses(t, image, "no signature found") // a payload under .att is an attestation's place
			control := r.reg.PushImage("prod/app", "")
			r.bundled(control.Digest, dsse(t, r.key, hintOnly, inToto, statementOf(control.Digest, signPredicate)))
			r.serves(t, control)
		},
		"CVE-2022-36056 a signature of a file, or of another image, is none of this": func(t *testing.T, r *rig) {
			good := r.signed("")
			blob := r.reg.PushImage("prod/app", "")
			sum := sha256.Sum256(blob.Manifest)
			signature, err := ecdsa.SignASN1(rand.Reader, r.key, sum[:])
			if err != nil {
				t.Fatal(err)
			}
			r.bundled(blob.Digest, fmt.Appendf(nil, `{"mediaType":%q,"verificationMaterial":{%s},`+
				`"messageSignature":{"messageDigest":{"algorithm":"SHA2_256","digest":%q},"signature":%q}}`,
				bundleType, hintOnly, base64.StdEncoding.EncodeToString(sum[:]), base64.StdEncoding.EncodeToString(signature)))
			r.refuses(t, blob, "none counts")
			moved := r.reg.PushImage("prod/app", "")
			r.bundled(moved.Digest, dsse(t, r.key, hintOnly, inToto, statementOf(good.Digest, signPredicate)))
			r.layered(moved.Digest, hostile.SignatureLayer(hostile.Payload("prod/app", good.Digest), r.key))
			r.refuses(t, moved, "none counts")
			both := r.reg.PushImage("prod/app", "") // an unsigned part beside a signed one
			text := string(dsse(t, r.key, hintOnly, inToto, statementOf(good.Digest, signPredicate)))
			r.bundled(both.Digest, []byte(strings.Replace(text, `"dsseEnvelope":{`, `"dsseEnvelope":{"payload":"`+base64.StdEncoding.EncodeToString([]byte(statementOf(both.Digest, signPredicate)))+`",`, 1)))
			r.refuses(t, both, "none counts")
			r.serves(t, good)
		},
		"CVE-2023-46737 endless signatures are bounded work": func(t *testing.T, r *rig) {
			image := r.reg.PushImage("prod/app", "")
			r.reg.On(hostile.EndlessPaging)
			r.layered(image.Digest, bytesOf(1000, hostile.SignatureLayer(hostile.Payload("prod/app", image.Digest), newKey(t)))...)
			start := time.Now()
			r.refuses(t, image, "limits.signatures")
			if n := len(r.reg.Requests()); n > 64+64+20 || time.Since(start) > 3*time.Second {
				t.Errorf("%d requests, %s", n, time.Since(start))
			}
		},
		"CVE-2024-29902 an attachment is read only as far as one may be long": func(t *testing.T, r *rig) {
			image := r.reg.PushImage("prod/app", "")
			large := r.reg.PushBlob("prod/app", random(2<<20))
			r.layered(image.Digest, hostile.Layer{MediaType: hostile.SimpleSigningType, Digest: large, Size: 1 << 30},
				hostile.Layer{
					MediaType: hostile.SimpleSigningType,
					Digest:    large,
					Size:      100,
				}, hostile.Layer{MediaType: hostile.SimpleSigningType, Digest: large, Size: -5})
			r.refuses(t, image, "no signature that could be examined")
		},
		"CVE-2024-29903 CVE-2023-42813 CVE-2023-42814 CVE-2023-42815 CVE-2023-42816 a manifest of heaps is no " +
			"manifest": func(t *testing.T, r *rig) {
			image := r.signed("v1")
			for _, trick := range []hostile.Trick{hostile.ManyLayers, hostile.HugeManifest} {
				r.reg.On(trick.At(hostile.For("v1")))
				if g := r.get(manifests("prod/app", "v1")); g.status != 400 && g.status != 502 {
					t.Errorf("%s: %d", trick.Name, g.status)
				}
				r.mend()
			}
			for _, trick := range []hostile.Trick{hostile.ManyLayers, hostile.HugeManifest} {
				bad := r.reg.PushImage("prod/app", "")
				r.reg.Sign("prod/app", bad.Digest, newKey(t))
				r.reg.On(trick.At(hostile.SignatureTags))
				r.refuses(t, bad, "")
				r.mend()
			}
			r.serves(t, image)
		},
		"CVE-2024-45395 a bundle of heaps of log entries is refused before they are read": func(t *testing.T, r *rig) {
			for _, n := range []int{5, 32, 900} {
				image := r.reg.PushImage("prod/app", "")
				entries := strings.TrimSuffix(strings.Repeat(`{"logIndex":"1","canonicalizedBody":"e30="},`, n), ",")
				r.bundled(image.Digest, dsse(t, r.key, hintOnly+`,"tlogEntries":[`+entries+`]`, inToto, statementOf(image.Digest, signPredicate)))
				r.refuses(t, image, "log entries")
				image = r.reg.PushImage("prod/app", "")
				stamps := strings.TrimSuffix(strings.Repeat(`{"signedTimestamp":"eA=="},`, n), ",")
				r.bundled(image.Digest, dsse(t, r.key, hintOnly+`,"timestampVerificationData":{"rfc3161Timestamps":[`+stamps+`]}`, inToto, statementOf(image.Digest, signPredicate)))
				r.refuses(t, image, "timestamps")
			}
		},
		"CVE-2026-22703 a log entry of another bundle makes up for nothing": func(t *testing.T, r *rig) {
			image := r.reg.PushImage("prod/app", "")
			entry := `,"tlogEntries":[{"logIndex":"1","logId":{"keyId":"eA=="},"kindVersion":{"kind":"dsse",` +
				`"version":"0.0.1"},"integratedTime":"1","canonicalizedBody":"e30="}]`
			r.bundled(image.Digest, dsse(t, newKey(t), hintOnly+entry, inToto, statementOf(image.Digest, signPredicate)))
			r.refuses(t, image, "none counts")
			ours := r.reg.PushImage("prod/app", "") // nor does one, spelt as every client spells it, unmake our own
			r.bundled(ours.Digest, dsse(t, r.key, hintOnly+entry, inToto, statementOf(ours.Digest, signPredicate)))
			r.serves(t, ours)
		},
		"CVE-2026-39395 a truly signed payload that says something else does not count": func(t *testing.T, r *rig) {
			for _, c := range []struct{ payloadType, payload string }{
				{inToto, "no JSON"},
				{inToto, ""},
				{inToto, "null"},
				{inToto, "[]"},
				{
					inToto,
					`{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"` +
						signPredicate + `","predicate":{}}`,
				},
				{
					inToto,
					`{"critical":{"image":{"docker-manifest-digest":"IMAGE"},"type":"cosign container image ` +
						`signature"}}`,
				},
				{
					"application/vnd.dev.cosign.simplesigning.v1+json",
					`{"critical":{"image":{"docker-manifest-digest":"IMAGE"},"type":"cosign container image ` +
						`signature"}}`,
				},
				{"text/plain", "STATEMENT"},
				{inToto + ";x=y", "STATEMENT"},
			} {
				image := r.reg.PushImage("prod/app", "")
				payload := strings.NewReplacer("IMAGE", image.Digest.String(), "STATEMENT", statementOf(image.Digest, signPredicate)).Replace(c.payload)
				r.bundled(image.Digest, dsse(t, r.key, hintOnly, c.payloadType, payload))
				r.refuses(t, image, "none counts")
			}
			image := r.reg.PushImage("prod/app", "")
			r.layered(image.Digest, hostile.SignatureLayer([]byte("no JSON"), r.key), hostile.SignatureLayer([]byte("null"), r.key),
				hostile.SignatureLayer(bytes.Replace(hostile.Payload("prod/app", image.Digest), []byte("cosign container"), []byte("atomic container"), 1), r.key))
			r.refuses(t, image, "none counts")
		},
		"GHSA-fx35-mq7g-6g98 a bundle's own key or certificate verifies nothing": func(t *testing.T, r *rig) {
			attacker := newKey(t)
			public, err := x509.MarshalPKIXPublicKey(&attacker.PublicKey)
			if err != nil {
				t.Fatal(err)
			}
			raw := base64.StdEncoding.EncodeToString(public)
			pemText := base64.StdEncoding.EncodeToString([]byte("-----BEGIN PUBLIC KEY-----\n" +
				raw + "\n-----END PUBLIC KEY-----\n"))
			for _, material := range []string{
				`"certificate":{"rawBytes":"` + raw + `"}`,
				`"certificate":{"rawBytes":"` + pemText + `"}`,
				`"x509CertificateChain":{"certificates":[{"rawBytes":"` + raw + `"}]}`,
				`"publicKey":{"hint":"` + raw + `"}`,
				`"publicKey":{"rawBytes":"` + raw + `"}`,
			} {
				image := r.reg.PushImage("prod/app", "")
				r.bundled(image.Digest, dsse(t, attacker, material, inToto, statementOf(image.Digest, signPredicate)))
				r.refuses(t, image, "none counts")
			}
			image := r.reg.PushImage("prod/app", "")
			layer := hostile.SignatureLayer(hostile.Payload("prod/app", image.Digest), attacker)
			layer.Annotations["dev.sigstore.cosign/certificate"] = "-----BEGIN PUBLIC KEY-----\n" +
				raw + "\n-----END PUBLIC KEY-----\n"
			r.layered(image.Digest, layer)
			r.refuses(t, image, "none counts")
		},
		"CVE-2022-47633 GHSA-wfqx-gjrf-g28r a tag that changes between looks": func(t *testing.T, r *rig) {
			good, bad := r.signed(""), r.reg.PushImage("prod/app", "")
			for _, trick := range []hostile.Trick{
				hostile.Swap("v1", good.Digest, bad.Digest),
				hostile.Swap("v1", bad.Digest, good.Digest),
				hostile.Alternate("v1", good.Digest, bad.Digest),
				hostile.Alternate("v1", bad.Digest, good.Digest),
			} {
				r.reg.On(trick)
				for i := range 8 {
					method := []string{http.MethodHead, http.MethodGet}[i%2]
					g := r.do(method, manifests("prod/app", "v1"))
					if g.status == 200 && (g.header.Get("Docker-Content-Digest") != good.Digest.String() || method == http.MethodGet && !bytes.Equal(g.body, good.Manifest)) {
						t.Errorf("%s, %s: served %s", trick.Name, method, g.header.Get("Docker-Content-Digest"))
					}
					if g.status != 200 && g.status != 403 {
						t.Errorf("%s, %s: %d %.200s", trick.Name, method, g.status, g.body)
					}
				}
				r.refuses(t, bad, "")
				r.mend()
				r.restart()
			}
		},
		"CVE-2023-47630 the registry's word about a digest is nothing": func(t *testing.T, r *rig) {
			good, bad := r.signed("v1"), r.reg.PushImage("prod/app", "bad")
			// The bad bytes, under the good image's digest and signature.
			r.reg.On(hostile.OtherBytes(hostile.ImageType, bad.Manifest).At(func(q hostile.Request) bool { return q.Reference == "v1" || q.Reference == good.Digest.String() }))
			for _, reference := range []string{"v1", good.Digest.String()} {
				r.get(manifests("prod/app", reference)).refused(t, http.StatusBadGateway, "UNAVAILABLE")
			}
			r.mend()
			r.reg.On(hostile.LieAboutDigest)
			r.get(manifests("prod/app", "v1")).refused(t, http.StatusBadGateway, "UNAVAILABLE")
			r.mend()
			r.serves(t, good)
		},
		"CVE-2025-29778 GHSA-gg4x-fgg2-h9w9 CVE-2024-48921 every field of a policy decides": policiesDecide,
		"CVE-2023-33959 a signature is for the very digest asked for": func(t *testing.T, r *rig) {
			good, bad := r.signed(""), r.reg.PushImage("prod/app", "")
			r.reg.PushRaw("prod/app", hostile.SignatureTag(bad.Digest), hostile.ImageType, r.reg.Manifest("prod/app", r.reg.Sign("prod/app", good.Digest, r.key)))
			r.refuses(t, bad, "for another image")
			for _, d := range []string{
				strings.ToUpper(bad.Digest.Encoded()),
				bad.Digest.Encoded() + " ",
				bad.Digest.Encoded()[:63],
			} {
				image := r.reg.PushImage("prod/app", "")
				r.layered(image.Digest, hostile.SignatureLayer(hostile.Payload("prod/app", digest.Digest("sha256:"+d)), r.key))
				r.refuses(t, image, "for another image")
			}
		},
		"CVE-2023-33957 CVE-2023-33958 a good signature among many, and past the limit": func(t *testing.T, r *rig) {
			for _, c := range []struct{ bad, status int }{{63, 200}, {64, 403}, {1000, 403}} {
				image := r.reg.PushImage("prod/app", "")
				payload := hostile.Payload("prod/app", image.Digest)
				r.layered(image.Digest, append(bytesOf(c.bad, hostile.SignatureLayer(payload, newKey(t))), hostile.SignatureLayer(payload, r.key))...)
				g := r.get(manifests("prod/app", image.Digest))
				if g.status != c.status || g.status == 403 && !strings.Contains(string(g.body), "limits.signatures") {
					t.Errorf("%d bad ones before it: %d %.500s", c.bad, g.status, g.body)
				}
			}
		},
		"CVE-2025-27403 CVE-2026-33540 CVE-2025-51471 a token realm elsewhere gets no credentials": func(t *testing.T, r *rig) {
			th := newThief(t)
			elsewhere := strings.Replace(th.URL, "127.0.0.1", "localhost", 1)
			r.signed("v1")
			for i, realm := range []string{
				elsewhere,
				elsewhere + "/127.0.0.1",
				strings.Replace(elsewhere, "http://", "http://127.0.0.1@", 1),
			} {
				r.withCredentials(t, func(http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
						challenges(w, `Bearer realm="`+realm+`/token",service="127.0.0.1"`)
					})
				})
				if g := r.get(manifests("prod/app", fmt.Sprint("v", i))); g.status != 502 {
					t.Errorf("%s: %d", realm, g.status)
				}
			}
			if seen := th.requests(); len(seen) > 0 {
				t.Errorf("it was asked %d times, with %q", len(seen), seen)
			}
		},
		"CVE-2026-48978 GHSA-vh4v-2xq2-g5cg a redirect elsewhere carries no credentials": func(t *testing.T, r *rig) {
			th := newThief(t)
			image := r.signed("v1")
			r.withCredentials(t, func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
					switch {
					case req.Header.Get("Authorization") == "":
						challenges(w, `Basic realm="x"`)
					case strings.HasSuffix(req.URL.Path, "/blobs/"+image.Layers[0].String()), strings.HasSuffix(req.URL.Path, "/manifests/moved"):
						w.Header().Set("Location", th.URL+req.URL.Path)
						w.WriteHeader(http.StatusTemporaryRedirect)
					default:
						next.ServeHTTP(w, req)
					}
				})
			})
			r.get(manifests("prod/app", "v1")).served(t, image.Manifest)
			for _, path := range []string{blobs("prod/app", image.Layers[0]), manifests("prod/app", "moved")} {
				if g, err := r.try(t.Context(), http.MethodGet, path); err == nil && g.err == nil && g.status == 200 {
					t.Errorf("%s: the thief's bytes: %s", path, g.body)
				}
			}
			for _, authorization := range th.requests() {
				if authorization != "" {
					t.Errorf("it was shown %q", authorization)
				}
			}
			if len(th.requests()) == 0 {
				t.Error("nobody followed: the test says nothing")
			}
		},
		"GHSA-qq97-vm5h-rrhg GHSA-5j5w-g665-5m35 a manifest that is two things is none": func(t *testing.T, r *rig) {
			image, index := string(imageWith(1, "")), string(indexWith(1, ""))
			for i, c := range []struct{ contentType, body string }{
				{hostile.ImageType, strings.TrimSuffix(image, "}") + `,"manifests":[]}`},
				{hostile.IndexType, strings.TrimSuffix(index, "}") + `,"layers":[]}`},
				{hostile.IndexType, strings.TrimSuffix(index, "}") + `,"config":{}}`},
				{hostile.IndexType, image},
				{hostile.ImageType, index},
				{hostile.ImageType, strings.Replace(image, `"layers"`, `"Layers"`, 1)},
				{hostile.ImageType, strings.TrimSuffix(image, "}") + `,"layers":[]}`},
				{hostile.ImageType, image + index},
			} {
				d := r.reg.PushRaw("prod/app", fmt.Sprint("both", i), c.contentType, []byte(c.body))
				r.reg.Sign("prod/app", d, r.key) // truly signed, and still
				for _, reference := range []string{fmt.Sprint("both", i), d.String()} {
					r.get(manifests("prod/app", reference)).refused(t, http.StatusBadRequest, "MANIFEST_INVALID")
				}
			}
		},
		"CVE-2024-3727 a digest is checked before it is part of a path": func(t *testing.T, r *rig) {
			hex := strings.Repeat("a", 64)
			for _, d := range []string{
				"sha256:../../etc/passwd",
				"sha256:" + hex[:63],
				"sha256:" + hex + "a",
				"sha256:" + strings.ToUpper(hex),
				"md5:" + hex[:32],
				"sha384:" + strings.Repeat("a", 96),
				"sha256:" + hex[:62] + "/.",
				"SHA256:" + hex,
				"sha256+x:" + hex,
				":" + hex,
				"sha256:",
				"sha256:" + hex[:61] + "%2e",
			} {
				for _, kind := range []string{"manifests", "blobs", "referrers"} {
					if g := r.raw(http.MethodGet, "/v2/reg.example/prod/app/"+kind+"/"+d); g.status != 400 && g.status != 404 {
						t.Errorf("%s/%s: %d", kind, d, g.status)
					}
				}
				body := strings.Replace(string(imageWith(1, "")), "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", d, 1)
				listed := r.reg.PushRaw("prod/app", "", hostile.ImageType, []byte(body))
				r.reg.Sign("prod/app", listed, r.key)
				r.get(manifests("prod/app", listed)).refused(t, http.StatusBadRequest, "MANIFEST_INVALID")
				image := r.reg.PushImage("prod/app", "")
				r.layered(image.Digest, hostile.Layer{
					MediaType: hostile.SimpleSigningType,
					Digest:    digest.Digest(d),
					Size:      3,
				})
				r.refuses(t, image, "without a proper digest")
			}
			for _, q := range r.reg.Requests() {
				if strings.Contains(q.URI, "..") || strings.Contains(q.URI, "%") || strings.Contains(q.URI, "passwd") {
					t.Errorf("the registry was asked %s", q.URI)
				}
			}
		},
		"CVE-2024-39897 CVE-2026-35172 a blob is its repository's, as of now": func(t *testing.T, r *rig) {
			layer := random(500)
			image := r.reg.PushImage("prod/app", "v1", layer)
			r.reg.Sign("prod/app", image.Digest, r.key)
			for _, repo := range []string{"prod/other", "closed/app"} { // the registry has it there too
				r.reg.PushBlob(repo, layer)
			}
			secret := r.reg.PushBlob("prod/app", []byte("in no image"))
			r.serves(t, image)
			r.get(blobs("prod/app", image.Layers[0])).served(t, layer)
			r.refusedAt("another repository's", blobs("prod/other", image.Layers[0]))
			r.refusedAt("a closed repository's", blobs("closed/app", image.Layers[0]))
			r.refusedAt("a blob of no image", blobs("prod/app", secret))
			r.key = newKey(t)
			r.reload()
			r.refusedAt("its image is no longer trusted", blobs("prod/app", image.Layers[0]))
		},
		"CVE-2025-48374 secrets are in no log, tokens are a repository's": func(t *testing.T, r *rig) {
			var mu sync.Mutex
			mixed := []string{}
			r.withCredentials(t, func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
					if req.URL.Path == "/token" {
						fmt.Fprintf(w, `{"token":"secret-%x"}`, req.URL.Query().Get("scope"))
						return
					}
					repo := strings.Join(strings.Split(req.URL.Path, "/")[2:4], "/")
					want := fmt.Sprintf("Bearer secret-%x", "repository:"+repo+":pull")
					switch got := req.Header.Get("Authorization"); got {
					case want:
						next.ServeHTTP(w, req)
					case "":
						challenges(w, `Bearer realm="http://`+req.Host+`/token",service="x"`)
					default:
						mu.Lock()
						mixed = append(mixed, repo+" "+got)
						mu.Unlock()
						w.WriteHeader(http.StatusForbidden)
					}
				})
			})
			for _, repo := range []string{"prod/app", "prod/other", "prod/app"} {
				image := r.reg.PushImage(repo, "v1")
				r.reg.Sign(repo, image.Digest, r.key)
				r.get(manifests(repo, "v1"), "Authorization", "Bearer of-the-client").served(t, image.Manifest)
			}
			r.get(manifests("prod/app", "gone"))
			mu.Lock()
			defer mu.Unlock()
			if len(mixed) > 0 {
				t.Errorf("tokens of one repository were shown for another: %q", mixed)
			}
			for _, secret := range []string{
				"secret-",
				gatePassword,
				base64.StdEncoding.EncodeToString([]byte("gate:" + gatePassword)),
				"of-the-client",
			} {
				if strings.Contains(r.log.String(), secret) {
					t.Errorf("%q is in the log", secret)
				}
			}
		},
		"CVE-2019-10214 a token service without TLS gets nothing of a TLS registry's": func(t *testing.T, r *rig) {
			th := newThief(t)
			password := filepath.Join(t.TempDir(), "password")
			if err := os.WriteFile(password, []byte(gatePassword), 0o600); err != nil {
				t.Fatal(err)
			}
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { challenges(w, `Bearer realm="`+th.URL+`/token"`) }))
			t.Cleanup(server.Close)
			roots := x509.NewCertPool()
			roots.AddCert(server.Certificate())
			for _, auth := range []upstream.Auth{{}, gateAuth(t, password)} {
				r.reach(t, server.URL, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, auth)
				if g := r.get(manifests("prod/app", "v1")); g.status != 502 {
					t.Errorf("%d %s", g.status, g.body)
				}
			}
			if seen := th.requests(); len(seen) > 0 {
				t.Errorf("it was asked %d times", len(seen))
			}
		},
		"CVE-2023-2253 a page has a largest size, and there is no catalog": func(t *testing.T, r *rig) {
			for _, n := range []string{"10001", "9223372036854775807", "9223372036854775808", "-1", "1e9"} {
				if g := r.get("/v2/reg.example/prod/app/tags/list?n=" + n); g.status != 400 {
					t.Errorf("n=%s: %d", n, g.status)
				}
			}
			for _, path := range []string{"/v2/_catalog", "/v2/_catalog?n=1000000000", "/v2/reg.example/_catalog"} {
				if g := r.get(path); g.status != 404 && g.status != 400 {
					t.Errorf("%s: %d", path, g.status)
				}
			}
			if n := len(r.reg.Requests()); n > 0 {
				t.Errorf("%d requests upstream", n)
			}
		},
		"containerd PR 12790, Harbor's User-Agent skip: nothing a client says skips the policy": func(t *testing.T, r *rig) {
			image := r.reg.PushImage("prod/app", "v1")
			for _, header := range [][2]string{
				{"User-Agent", "cosign/v3.0.0"},
				{"User-Agent", "notation/1.0"},
				{"User-Agent", "trivy/0.1 (scanner)"},
				{"Authorization", "Basic YWRtaW46YWRtaW4="},
				{"X-Forwarded-For", "127.0.0.1"},
				{"X-Original-Url", "/v2/"},
				{"X-Rewrite-Url", "/v2/"},
				{"X-Http-Method-Override", "OPTIONS"},
				{"X-Pullgate-Skip", "true"},
				{"Pullgate-Decision", "x"},
				{"Accept", "application/vnd.dev.cosign.artifact.sig.v1+json"},
				{"Range", "bytes=0-0"},
				{"If-None-Match", `"` + image.Digest.String() + `"`},
				{"Cache-Control", "only-if-cached"},
				{"Host", "localhost"},
				{"Host", "reg.example"},
				{"Connection", "upgrade"},
				{"Content-Type", hostile.SimpleSigningType},
			} {
				for _, path := range []string{
					manifests("prod/app", "v1"),
					manifests("prod/app", image.Digest),
					blobs("prod/app", image.Layers[0]),
					blobs("prod/app", image.Config),
				} {
					if g := r.get(path, header[0], header[1]); g.status != 403 {
						t.Errorf("%s: %s: %s: %d", header[0], header[1], path, g.status)
					}
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			attack(t, newRig(t))
		})
	}
}

// policiesDecide changes one field of a policy at a time: each flips a verdict
// about the same image, which is signed by the rig's key with env=prod.
func policiesDecide(t *testing.T, r *rig) {
	image := r.reg.PushImage("prod/app", "v1")
	r.reg.Sign("prod/app", image.Digest, r.key, "env", "prod")
	other := r.reg.PushImage("prod/app", "v2")
	der, err := x509.MarshalPKIXPublicKey(&newKey(t).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	stranger := fmt.Sprintf(
		"%q",
		"-----BEGIN PUBLIC KEY-----\n"+base64.StdEncoding.EncodeToString(der)+"\n-----END PUBLIC KEY-----\n",
	)
	stranger = strings.ReplaceAll(stranger, "KEY", `K\x45Y`) // KEY stands for the rig's
	const all = `images: ["reg.example/prod/**"]`
	d, e := image.Digest.String(), other.Digest.String()
	for _, c := range []struct {
		field    string
		policies string
		signed   int // the status of the signed image
		unsigned int // of the other
		mode     policy.Mode
	}{
		{
			"as it should be",
			`[{name: a, ` + all + `, authorities: [{key: KEY}], annotations: {env: prod}}]`,
			200,
			403,
			policy.Enforce,
		},
		{"key", `[{name: a, ` + all + `, authorities: [{key: ` + stranger + `}]}]`, 403, 403, policy.Enforce},
		{"keys", `[{name: a, ` + all + `, authorities: [{keys: [` + stranger + `, KEY]}]}]`, 200, 403, policy.Enforce},
		{
			"annotations, value",
			`[{name: a, ` + all + `, authorities: [{key: KEY}], annotations: {env: Prod}}]`,
			403,
			403,
			policy.Enforce,
		},
		{
			"annotations, one more",
			`[{name: a, ` + all + `, authorities: [{key: KEY}], annotations: {env: prod, team: x}}]`,
			403,
			403,
			policy.Enforce,
		},
		{
			"images",
			`[{name: a, images: ["reg.example/prod/other"], authorities: [{key: KEY}]}]`,
			403,
			403,
			policy.Enforce,
		},
		{
			"images are anchored",
			`[{name: a, images: ["reg.example/prod/ap", "reg.example/prod", "xreg.example/prod/app", ` +
				`"reg.example/prod/app/*"], static: allow}]`,
			403,
			403,
			policy.Enforce,
		},
		{"digests", `[{name: a, digests: ["` + d + `"], authorities: [{key: KEY}]}]`, 200, 403, policy.Enforce},
		{
			"digests, of another",
			`[{name: a, digests: ["` + e + `"], authorities: [{key: KEY}]}]`,
			403,
			403,
			policy.Enforce,
		},
		{
			"digests and images must both match",
			`[{name: a, images: ["reg.example/open/**"], digests: ["` + d + `"], static: allow}]`,
			403,
			403,
			policy.Enforce,
		},
		{
			"static: allow of one digest",
			`[{name: a, digests: ["` + e + `"], static: allow}, {name: b, ` + all + `, authorities: [{key: KEY}]}]`,
			200,
			200,
			policy.Enforce,
		},
		{
			"static: deny of one digest",
			`[{name: a, digests: ["` + d + `"], static: deny}, {name: b, ` + all + `, static: allow}]`,
			403,
			200,
			policy.Enforce,
		},
		{
			"two exemptions, the first says no",
			`[{name: a, ` + all + `, static: deny}, {name: b, digests: ["` + d + `"], static: allow}]`,
			403,
			403,
			policy.Enforce,
		},
		{
			"an exemption of another repository",
			`[{name: a, images: ["reg.example/prod/other"], static: allow}, {name: b, images: ` +
				`["reg.example/*/app"], authorities: [{key: ` + stranger + `}]}]`,
			403,
			403,
			policy.Enforce,
		},
		{
			"expires, past",
			`[{name: a, digests: ["` + d + `"], static: allow, expires: 2020-01-01}]`,
			403,
			403,
			policy.Enforce,
		},
		{
			"expires, ahead",
			`[{name: a, digests: ["` + d + `"], static: allow, expires: 2199-01-01}]`,
			200,
			403,
			policy.Enforce,
		},
		{
			"an expired exemption lets nobody else decide",
			`[{name: a, digests: ["` + d + `"], static: allow, expires: 2020-01-01}, {name: b, ` +
				all + `, static: allow}]`,
			403,
			200,
			policy.Enforce,
		},
		{
			"mode: warn",
			`[{name: a, ` + all + `, mode: warn, authorities: [{key: ` + stranger + `}]}]`,
			200,
			200,
			policy.Enforce,
		},
		{
			"mode: warn, expired",
			`[{name: a, ` + all + `, mode: warn, expires: 2020-01-01, authorities: [{key: ` + stranger + `}]}]`,
			403,
			403,
			policy.Enforce,
		},
		{
			"the gate's mode: warn",
			`[{name: a, ` + all + `, authorities: [{key: ` + stranger + `}]}]`,
			200,
			200,
			policy.Warn,
		},
		{"the gate's mode: warn and static: deny", `[{name: a, ` + all + `, static: deny}]`, 403, 403, policy.Warn},
		{
			"signatureRepository",
			`[{name: a, ` + all + `, signatureRepository: reg.example/open/signatures, authorities: [{key: KEY}]}]`,
			403,
			403,
			policy.Enforce,
		},
	} {
		r.reload(withPolicies(c.policies), withMode(c.mode))
		for tag, want := range map[string]int{"v1": c.signed, "v2": c.unsigned} {
			if g := r.get(manifests("prod/app", tag)); g.status != want {
				t.Errorf("%s: %s: %d, want %d: %.300s", c.field, tag, g.status, want, g.body)
			}
		}
	}
	// children: own is about parts, which must not get in by their index then.
	index := r.reg.PushIndex("prod/app", "all", other.Digest)
	r.reg.Sign("prod/app", index, r.key)
	for children, want := range map[string]int{"index": 200, "own": 403} {
		r.reload(
			withPolicies(`[{name: a, `+all+`, children: `+children+`, authorities: [{key: KEY}]}]`),
			withMode(policy.Enforce),
		)
		if g := r.get(manifests("prod/app", "all")); g.status != 200 {
			t.Errorf("the index under children: %s: %d", children, g.status)
		}
		if g := r.get(manifests("prod/app", other.Digest)); g.status != want {
			t.Errorf("its child under children: %s: %d, want %d", children, g.status, want)
		}
	}
}
