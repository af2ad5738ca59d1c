package proxy_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/hostile"
)

// hintOf is how a bundle says which key made it.
func hintOf(t *testing.T, key *ecdsa.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	return `"publicKey":{"hint":"` + base64Of(sum[:]) + `"}`
}

// own is a payload of its own for image, signed by key.
func own(image digest.Digest, n int, key *ecdsa.PrivateKey) hostile.Layer {
	return hostile.SignatureLayer(hostile.Payload("prod/app", image, "n", strconv.Itoa(n)), key)
}

// several are n layers, each made by one.
func several(n int, one func(i int) hostile.Layer) []hostile.Layer {
	var list []hostile.Layer
	for i := range n {
		list = append(list, one(i))
	}
	return list
}

// outcome checks what a policy comes to, and that a refusal says why not all was
// examined.
func (r *rig) outcome(t *testing.T, image hostile.Image, note string) {
	t.Helper()
	if note == "" {
		r.serves(t, image)
		return
	}
	r.refuses(t, image, note)
}

const (
	pastLimit   = "holds more than 64 signatures; the rest was not examined (limits.signatures)"
	pastFetches = "lists 257 artifacts; only 256"
	pastPayload = "holds more than 1024 signatures over one payload; the rest was not examined"
)

// TestLayerOrder: cosign appends to the .sig manifest, so the newest layers go
// first, and signatures over one payload count as one against the limit.
func TestLayerOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	stranger := newKey(t)
	for name, test := range map[string]struct {
		layers func(image digest.Digest) []hostile.Layer
		note   string // empty: served
	}{
		"70 older over one payload": {func(image digest.Digest) []hostile.Layer {
			payload := hostile.Payload("prod/app", image)
			older := bytesOf(70, hostile.SignatureLayer(payload, stranger))
			return append(older, hostile.SignatureLayer(payload, r.key))
		}, ""},
		"1000 newer over one payload": {func(image digest.Digest) []hostile.Layer {
			payload := hostile.Payload("prod/app", image)
			newer := bytesOf(1000, hostile.SignatureLayer(payload, stranger))
			return append([]hostile.Layer{hostile.SignatureLayer(payload, r.key)}, newer...)
		}, ""},
		"1100 newer over one payload": {func(image digest.Digest) []hostile.Layer {
			payload := hostile.Payload("prod/app", image)
			newer := bytesOf(1100, hostile.SignatureLayer(payload, stranger))
			return append([]hostile.Layer{hostile.SignatureLayer(payload, r.key)}, newer...)
		}, pastPayload},
		"100 older over payloads of their own": {func(image digest.Digest) []hostile.Layer {
			older := several(100, func(i int) hostile.Layer { return own(image, i, stranger) })
			return append(older, own(image, 100, r.key))
		}, ""},
		"63 newer over payloads of their own": {func(image digest.Digest) []hostile.Layer {
			newer := several(63, func(i int) hostile.Layer { return own(image, i, stranger) })
			return append([]hostile.Layer{own(image, 63, r.key)}, newer...)
		}, ""},
		"64 newer over payloads of their own": {func(image digest.Digest) []hostile.Layer {
			newer := several(64, func(i int) hostile.Layer { return own(image, i, stranger) })
			return append([]hostile.Layer{own(image, 64, r.key)}, newer...)
		}, pastLimit},
		"the same payload under another size": {func(image digest.Digest) []hostile.Layer {
			good := own(image, 0, r.key)
			lying := hostile.SignatureLayer(good.Body, stranger)
			lying.Digest, lying.Size = digest.FromBytes(good.Body), 1<<40
			return []hostile.Layer{good, lying}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			image := r.reg.PushImage("prod/app", "")
			r.layered(image.Digest, test.layers(image.Digest)...)
			r.outcome(t, image, test.note)
		})
	}
}

// TestBundleOrder: of bundles, those whose hint names a key of the policy go
// first, then the newest.
func TestBundleOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	stranger := newKey(t)
	ours, theirs := hintOf(t, r.key), hintOf(t, stranger)
	const slsa = "https://slsa.dev/provenance/v1"
	type bundle struct {
		n         int
		key       *ecdsa.PrivateKey
		hint      string
		predicate string
	}
	good, hintless := bundle{1, r.key, ours, signPredicate}, bundle{1, r.key, hintOnly, signPredicate}

	for name, test := range map[string]struct {
		bundles []bundle // the oldest first
		note    string   // empty: served
	}{
		"70 older":                      {[]bundle{{70, stranger, theirs, signPredicate}, good}, ""},
		"70 older, no hints":            {[]bundle{{70, stranger, hintOnly, signPredicate}, hintless}, ""},
		"64 newer":                      {[]bundle{good, {64, stranger, theirs, signPredicate}}, ""},
		"64 newer without hints":        {[]bundle{good, {64, stranger, hintOnly, signPredicate}}, ""},
		"255 newer":                     {[]bundle{good, {255, stranger, theirs, signPredicate}}, ""},
		"256 newer":                     {[]bundle{good, {256, stranger, theirs, signPredicate}}, pastFetches},
		"64 newer, no hints":            {[]bundle{hintless, {64, stranger, hintOnly, signPredicate}}, pastLimit},
		"64 newer, theirs with hints":   {[]bundle{hintless, {64, stranger, theirs, signPredicate}}, ""},
		"80 newer that name our key":    {[]bundle{good, {80, stranger, ours, signPredicate}}, pastLimit},
		"63 newer that name our key":    {[]bundle{good, {63, stranger, ours, signPredicate}}, ""},
		"100 newer attestations":        {[]bundle{hintless, {100, r.key, ours, slsa}}, ""},
		"300 newer attestations":        {[]bundle{hintless, {300, r.key, ours, slsa}}, ""},
		"attestations that name no one": {[]bundle{hintless, {100, stranger, hintOnly, slsa}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			image := r.reg.PushImage("prod/app", "")
			n := 0
			for _, b := range test.bundles {
				for range b.n {
					n++
					statement := strings.Replace(
						statementOf(image.Digest, b.predicate),
						`"predicate":{}`,
						fmt.Sprintf(`"predicate":{"n":%d}`, n),
						1,
					)
					body := dsse(t, b.key, b.hint, inToto, statement)
					r.reg.PushArtifact("prod/app", "", hostile.Artifact{
						Type:        bundleType,
						Annotations: map[string]string{"dev.sigstore.bundle.predicateType": b.predicate},
						Layers:      []hostile.Layer{{MediaType: bundleType, Body: body}},
						Subject:     image.Digest,
					})
				}
			}

			r.reg.Forget()
			r.outcome(t, image, test.note)
			if blobs := r.reg.Count(hostile.Is(hostile.Blobs)); blobs > 256+5 {
				t.Errorf("%d blobs were fetched", blobs)
			}
		})
	}

	t.Run("attestations alone", func(t *testing.T) {
		image := r.reg.PushImage("prod/app", "")
		for i := range 100 {
			statement := statementOf(image.Digest, slsa) + strings.Repeat(" ", i)
			r.bundled(image.Digest, dsse(t, stranger, theirs, inToto, statement))
		}
		e := r.get(manifests("prod/app", image.Digest)).refused(t, http.StatusForbidden, "DENIED")
		if message := e.Errors[0].Message; !strings.Contains(message, "100 signatures found") ||
			strings.Contains(message, "limits.signatures") {
			t.Errorf("what cannot count fills no limit: %s", message)
		}
	})

	manifestOf := func(image digest.Digest, n int) []hostile.Layer {
		return several(n, func(i int) hostile.Layer {
			statement := statementOf(image, signPredicate) + strings.Repeat(" ", i)
			return hostile.Layer{MediaType: bundleType, Body: dsse(t, stranger, theirs, inToto, statement)}
		})
	}
	t.Run("more in one manifest than are fetched", func(t *testing.T) {
		image := r.reg.PushImage("prod/app", "")
		r.reg.PushArtifact("prod/app", "", hostile.Artifact{
			Type:    bundleType,
			Layers:  manifestOf(image.Digest, 400),
			Subject: image.Digest,
		})
		r.reg.Forget()
		r.refuses(t, image, pastLimit)
		if blobs := r.reg.Count(hostile.Is(hostile.Blobs)); blobs > 256+5 {
			t.Errorf("%d blobs were fetched", blobs)
		}
	})
	t.Run("many in one manifest", func(t *testing.T) {
		image := r.reg.PushImage("prod/app", "")
		layers := manifestOf(image.Digest, 100)
		body := dsse(t, r.key, ours, inToto, statementOf(image.Digest, signPredicate))
		layers = slices.Insert(layers, 0, hostile.Layer{MediaType: bundleType, Body: body})
		r.reg.PushArtifact("prod/app", "", hostile.Artifact{Type: bundleType, Layers: layers, Subject: image.Digest})
		r.serves(t, image)
	})
}

// TestCertificateOrder: of legacy layers, those whose certificate the policy
// trusts go first, and nothing but the annotations is read to know that.
func TestCertificateOrder(t *testing.T) {
	t.Parallel()
	ca, signer, stranger := newKey(t), newKey(t), newKey(t)
	root := certified(t, "root", nil, ca, ca)
	file := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(file, pemOf(root), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, withPolicies(fmt.Sprintf(`
- name: prod
  images: ["reg.example/prod/**"]
  authorities: [{name: pki, certificate: {rootsFile: %q, subject: release@acme.example}}]
`, file)))

	layer := func(image digest.Digest, n int, c *x509.Certificate, key *ecdsa.PrivateKey) hostile.Layer {
		l := own(image, n, key)
		l.Annotations["dev.sigstore.cosign/certificate"] = string(pemOf(c))
		return l
	}
	ours := certified(t, "release@acme.example", root, signer, ca)
	theirs := certified(t, "eve@acme.example", root, stranger, ca)
	impostor := certified(t, "root", nil, stranger, stranger)
	forged := certified(t, "release@acme.example", impostor, stranger, stranger)
	for name, test := range map[string]struct {
		n    int
		cert *x509.Certificate
		note string // empty: served
	}{
		"64 strangers'":  {64, theirs, ""},
		"200 strangers'": {200, theirs, ""},
		"63 forged":      {63, forged, ""},
		"80 forged":      {80, forged, pastLimit},
	} {
		t.Run(name, func(t *testing.T) {
			image := r.reg.PushImage("prod/app", "")
			newer := several(test.n, func(i int) hostile.Layer { return layer(image.Digest, i, test.cert, stranger) })
			good := layer(image.Digest, test.n, ours, signer)
			r.layered(image.Digest, append([]hostile.Layer{good}, newer...)...)
			r.outcome(t, image, test.note)
		})
	}

	shared := func(image digest.Digest, c *x509.Certificate, key *ecdsa.PrivateKey) hostile.Layer {
		return layer(image, 1000, c, key)
	}
	t.Run("1100 strangers' over the same payload", func(t *testing.T) {
		image := r.reg.PushImage("prod/app", "")
		newer := bytesOf(1100, shared(image.Digest, theirs, stranger))
		r.layered(image.Digest, append([]hostile.Layer{shared(image.Digest, ours, signer)}, newer...)...)
		r.serves(t, image)
	})
	t.Run("a stranger's over the same payload, and 40 over others", func(t *testing.T) {
		image := r.reg.PushImage("prod/app", "")
		newer := several(40, func(i int) hostile.Layer { return layer(image.Digest, i, forged, stranger) })
		both := []hostile.Layer{shared(image.Digest, ours, signer), shared(image.Digest, theirs, stranger)}
		r.layered(image.Digest, append(both, newer...)...)
		r.serves(t, image)
	})

	t.Run("referrers of one layer", func(t *testing.T) {
		image := r.reg.PushImage("prod/app", "")
		attach := func(l hostile.Layer) {
			r.reg.PushArtifact("prod/app", "", hostile.Artifact{
				Type:       hostile.SignatureType,
				ConfigType: hostile.SignatureType,
				Layers:     []hostile.Layer{l},
				Subject:    image.Digest,
			})
		}
		attach(layer(image.Digest, 0, ours, signer))
		for i := range 40 {
			attach(layer(image.Digest, i+1, theirs, stranger))
		}
		attach(hostile.Layer{MediaType: bundleType, Body: []byte("{}")})
		if g := r.get(manifests("prod/app", image.Digest)); g.status != http.StatusOK {
			t.Errorf("%d %s", g.status, g.body)
		}
	})
}

// certified is a certificate for an address, by a key in the name of parent; a
// root when there is none.
func certified(t *testing.T, address string, parent *x509.Certificate, key, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: address},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		BasicConstraintsValid: true,
	}
	if parent == nil {
		c.IsCA, c.KeyUsage, parent = true, x509.KeyUsageCertSign, c
	} else {
		c.EmailAddresses = []string{address}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func pemOf(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}
