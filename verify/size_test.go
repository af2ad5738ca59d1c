package verify_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/test/hostile"
)

// bill is a CycloneDX bill of materials of about size bytes, as its scanners
// write it: mostly short properties.
func bill(size int) string {
	var b strings.Builder
	b.WriteString(`{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{}`)
	for i := 0; b.Len() < size-600; i++ {
		fmt.Fprintf(
			&b,
			`,{"bom-ref":"pkg:deb/debian/lib%d@1.2.3","type":"library","name":"lib%d","version":"1.2.3","properties":[`+
				`{"name":"syft:package:foundBy","value":"dpkg-db-cataloger"},{"name":"syft:package:type",`+
				`"value":"deb"},{"name":"syft:location:0:path","value":"/var/lib/dpkg/status"}]}`,
			i,
			i,
		)
	}
	b.WriteString("]}")
	return b.String()
}

// TestAttestationSizes: what limits.payloadBytes allows by
// default can count, wherever it is attached, with small ones beside it.
func TestAttestationSizes(t *testing.T) {
	s := newSigners(t)
	gate := s.gate(`[{name: p, images: ["reg.example/**"], authorities: [{name: k, key: a.pub}],
		attestations: [{type: cyclonedx, cel: "predicate.bomFormat == 'CycloneDX'"}, {type: openvex}]}]`)
	const mebi = 1 << 20
	for _, size := range []int{1 * mebi, 3 * mebi, 5*mebi + mebi/2, 8 * mebi} {
		for _, where := range []string{"the .att tag", "a referrer"} {
			t.Run(fmt.Sprintf("%d KiB at %s", size>>10, where), func(t *testing.T) {
				image := s.image()
				s.attach(image, s.sign(image, "a"))
				// base64 makes four bytes of three
				large := s.attestation(image, "a", "https://cyclonedx.org/bom", bill(size/4*3-1024))
				if len(large.Body) > size || len(large.Body) < size-8192 {
					t.Fatalf("made one of %d bytes", len(large.Body))
				}
				layers := []hostile.Layer{s.attestation(image, "a", "https://openvex.dev/ns", `{}`), large}
				if where == "a referrer" {
					s.attach(image, layers...)
				} else {
					s.reg.PushArtifact(signersRepo, "sha256-"+image.Encoded()+".att", hostile.Artifact{Layers: layers})
				}
				if v := s.verdict(gate, image); !v.Admitted() {
					t.Error(v.Message())
				}
			})
		}
	}
}

// TestUnreadableAttestation: the signature is there, so nothing
// else would say why the attestation does not count.
func TestUnreadableAttestation(t *testing.T) {
	s := newSigners(t)
	gate := s.gate(
		`[{name: p, images: ["reg.example/**"], authorities: [{key: a.pub}], attestations: [{type: cyclonedx}]}]`,
	)
	image := s.image()
	s.attach(image, s.sign(image, "a"), s.attestation(image, "a", "https://cyclonedx.org/bom", `{"twice":1,"twice":2}`))
	if v := s.verdict(
		gate,
		image,
	); v.Admitted() ||
		!strings.Contains(v.Message(), `its statement is ambiguous or malformed JSON: the key "twice"`) {
		t.Error(v.Message())
	}
}

// TestOversizedAttestation: whoever attached it learns which limit
// it is over.
func TestOversizedAttestation(t *testing.T) {
	s := newSigners(t)
	gate := s.gate(
		`[{name: p, images: ["reg.example/**"], authorities: [{name: k, key: a.pub}], attestations: [{type: ` +
			`cyclonedx}]}]`,
	)
	image := s.image()
	s.attach(image, s.sign(image, "a"))
	s.attach(image, s.attestation(image, "a", "https://cyclonedx.org/bom", bill(7<<20)))
	if v := s.verdict(
		gate,
		image,
	); v.Admitted() ||
		!strings.Contains(v.Message(), "KiB, more than limits.payloadBytes allows") {
		t.Error(v.Message())
	}
}
