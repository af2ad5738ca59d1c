package proxy_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/hostile"
	"github.com/pullgate/pullgate/verify/sigs"
)

// transparencyLog is a Rekor v1 log, as far as an entry needs it: it promises
// inclusion of whatever it is given.
type transparencyLog struct {
	t   *testing.T
	key *ecdsa.PrivateKey
	n   int64
}

// withLog is a rig whose images must be signed by its key and be in the log.
func withLog(t *testing.T) (*rig, *transparencyLog) {
	t.Helper()
	l := &transparencyLog{t: t, key: newKey(t)}
	root, err := sigs.ParseRoot("local", l.root())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "trusted_root.json")
	if err := os.WriteFile(file, l.root(), 0o600); err != nil {
		t.Fatal(err)
	}
	return newRig(t, func(o *options) {
		o.trust = sigs.Trust{Roots: map[string]*sigs.Root{"local": root}}
		o.trustRoots = "[{name: local, file: " + file + "}]"
		o.policies = `
- name: prod
  images: ["reg.example/prod/**"]
  authorities: [{name: release, key: KEY, transparencyLog: require, trustRoot: local}]
`
	}), l
}

func (l *transparencyLog) public() []byte {
	l.t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&l.key.PublicKey)
	if err != nil {
		l.t.Fatal(err)
	}
	return der
}

func (l *transparencyLog) id() []byte {
	sum := sha256.Sum256(l.public())
	return sum[:]
}

// root is a trusted root of this log alone.
func (l *transparencyLog) root() []byte {
	return fmt.Appendf(
		nil,
		`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1","tlogs":[{`+
			`"baseUrl":"https://log.example","hashAlgorithm":"SHA2_256","publicKey":{"rawBytes":%q,`+
			`"keyDetails":"PKIX_ECDSA_P256_SHA_256","validFor":{"start":"2020-01-01T00:00:00Z"}},`+
			`"logId":{"keyId":%q}}]}`,
		base64Of(l.public()),
		base64Of(l.id()),
	)
}

// entry is what the log says of an entry.
type entry struct {
	Body           string `json:"body"`
	IntegratedTime int64  `json:"integratedTime"`
	LogID          string `json:"logID"`
	LogIndex       int64  `json:"logIndex"`

	promise []byte
}

// add makes an entry with this body and promises its inclusion.
func (l *transparencyLog) add(body any) entry {
	l.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		l.t.Fatal(err)
	}
	l.n++
	e := entry{
		Body:           base64Of(text),
		IntegratedTime: time.Now().Unix(),
		LogID:          hex.EncodeToString(l.id()),
		LogIndex:       l.n,
	}

	signed, err := json.Marshal(e) // its names are in order, as the canonical form has them
	if err != nil {
		l.t.Fatal(err)
	}
	sum := sha256.Sum256(signed)
	if e.promise, err = ecdsa.SignASN1(rand.Reader, l.key, sum[:]); err != nil {
		l.t.Fatal(err)
	}
	return e
}

func hashed(b []byte) map[string]any {
	sum := sha256.Sum256(b)
	return map[string]any{"algorithm": "sha256", "value": hex.EncodeToString(sum[:])}
}

// logged enters a legacy signature by key into the log and notes that on it.
func (l *transparencyLog) logged(layer hostile.Layer, key *ecdsa.PrivateKey) hostile.Layer {
	l.t.Helper()
	e := l.add(map[string]any{"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": map[string]any{
		"data": map[string]any{"hash": hashed(layer.Body)},
		"signature": map[string]any{
			"content":   layer.Annotations["dev.cosignproject.cosign/signature"],
			"publicKey": map[string]any{"content": base64Of(publicPEM(l.t, key))},
		},
	}})
	text, err := json.Marshal(map[string]any{"SignedEntryTimestamp": e.promise, "Payload": e})
	if err != nil {
		l.t.Fatal(err)
	}
	layer.Annotations[logAnnotation] = string(text)
	return layer
}

const logAnnotation = "dev.sigstore.cosign/bundle"

// bundled is a bundle of version 0.1 around a statement about image, with the
// entries that the log makes of the signatures in it; change may replace them.
func (l *transparencyLog) bundled(image digest.Digest, key *ecdsa.PrivateKey, change func([]string) []string) []byte {
	l.t.Helper()
	statement := statementOf(image, signPredicate)
	var b struct {
		MediaType string         `json:"mediaType"`
		Material  map[string]any `json:"verificationMaterial"`
		Envelope  struct {
			Payload     string `json:"payload"`
			PayloadType string `json:"payloadType"`
			Signatures  []struct {
				Sig string `json:"sig"`
			} `json:"signatures"`
		} `json:"dsseEnvelope"`
	}
	if err := json.Unmarshal(dsse(l.t, key, hintOnly, inToto, statement), &b); err != nil {
		l.t.Fatal(err)
	}
	b.MediaType = "application/vnd.dev.sigstore.bundle+json;version=0.1"

	e := l.add(map[string]any{"apiVersion": "0.0.1", "kind": "dsse", "spec": map[string]any{
		"envelopeHash": hashed([]byte("the envelope")),
		"payloadHash":  hashed([]byte(statement)),
		"signatures": []any{map[string]any{
			"signature": b.Envelope.Signatures[0].Sig,
			"verifier":  base64Of(publicPEM(l.t, key)),
		}},
	}})
	entries := []string{fmt.Sprintf(
		`{"logIndex":"%d","logId":{"keyId":%q},"kindVersion":{"kind":"dsse","version":"0.0.1"},`+
			`"integratedTime":"%d","inclusionPromise":{"signedEntryTimestamp":%q},"canonicalizedBody":%q}`,
		e.LogIndex, base64Of(l.id()), e.IntegratedTime, base64Of(e.promise), e.Body,
	)}
	if change != nil {
		entries = change(entries)
	}
	var raw []json.RawMessage
	for _, one := range entries {
		raw = append(raw, json.RawMessage(one))
	}
	b.Material["tlogEntries"] = raw
	text, err := json.Marshal(b)
	if err != nil {
		l.t.Fatal(err)
	}
	return text
}
