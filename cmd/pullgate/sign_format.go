package main

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/pullgate/pullgate/verify/sigs"
)

// signer signs as cosign does: everything is hashed with SHA-256, whatever the
// key's curve.
type signer struct {
	signature.Signer
	public crypto.PublicKey
}

func newSigner(key crypto.PrivateKey) (*signer, error) {
	s, err := signature.LoadSigner(key, crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("use the private key: %w", err)
	}
	public, err := s.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("use the private key: %w", err)
	}
	return &signer{s, public}, nil
}

// simpleSigning is a legacy signature of one image: its payload, and the
// annotation that carries the signature in base64.
func (s *signer) simpleSigning(
	repository string,
	image v1.Hash,
	annotations map[string]string,
) (payload []byte, sig string, err error) {
	var optional any
	if len(annotations) > 0 {
		optional = annotations
	}
	payload, err = json.Marshal(map[string]any{
		"critical": map[string]any{
			"identity": map[string]string{"docker-reference": repository},
			"image":    map[string]string{"docker-manifest-digest": image.String()},
			"type":     "cosign container image signature",
		},
		"optional": optional,
	})
	if err != nil {
		return nil, "", fmt.Errorf("write payload: %w", err)
	}
	raw, err := s.SignMessage(bytes.NewReader(payload))
	if err != nil {
		return nil, "", fmt.Errorf("sign: %w", err)
	}
	return payload, base64.StdEncoding.EncodeToString(raw), nil
}

const (
	bundleType    = "application/vnd.dev.sigstore.bundle.v0.3+json"
	emptyType     = "application/vnd.oci.empty.v1+json"
	signPredicate = "https://sigstore.dev/cosign/sign/v1"
	inTotoType    = "application/vnd.in-toto+json"
)

// bundle is a Sigstore bundle that signs one image: a DSSE envelope around an
// in-toto statement, and a hint which key it was.
func (s *signer) bundle(image v1.Hash, annotations map[string]string) ([]byte, error) {
	if annotations == nil {
		annotations = map[string]string{}
	}
	statement, err := json.Marshal(map[string]any{
		"_type": "https://in-toto.io/Statement/v1",
		"subject": []any{map[string]any{
			"digest":      map[string]string{image.Algorithm: image.Hex},
			"annotations": annotations,
		}},
		"predicateType": signPredicate,
		"predicate":     map[string]any{},
	})
	if err != nil {
		return nil, fmt.Errorf("write statement: %w", err)
	}
	raw, err := s.SignMessage(bytes.NewReader(dsse.PAE(inTotoType, statement)))
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(s.public)
	if err != nil {
		return nil, fmt.Errorf("write the key's hint: %w", err)
	}
	hint := sha256.Sum256(der)
	return json.Marshal(map[string]any{
		"mediaType": bundleType,
		"verificationMaterial": map[string]any{
			"publicKey": map[string]string{"hint": base64.StdEncoding.EncodeToString(hint[:])},
		},
		"dsseEnvelope": map[string]any{
			"payload": statement, "payloadType": inTotoType,
			"signatures": []any{map[string]any{"sig": raw}},
		},
	})
}

// artifact is the manifest that attaches a bundle to an image, as it is pushed.
type artifact struct{ raw []byte }

func (a artifact) RawManifest() ([]byte, error)        { return a.raw, nil }
func (a artifact) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

func (a artifact) in(repo name.Repository) name.Digest {
	sum := sha256.Sum256(a.raw)
	return repo.Digest(fmt.Sprintf("sha256:%x", sum))
}

func newArtifact(subject, config, layer v1.Descriptor, now time.Time) (artifact, error) {
	raw, err := json.Marshal(map[string]any{
		"schemaVersion": 2,
		"mediaType":     types.OCIManifestSchema1,
		"artifactType":  bundleType,
		"config":        config,
		"layers":        []v1.Descriptor{layer},
		"subject":       subject,
		"annotations": map[string]string{
			"dev.sigstore.bundle.content":       "dsse-envelope",
			"dev.sigstore.bundle.predicateType": signPredicate,
			"org.opencontainers.image.created":  now.UTC().Format(time.RFC3339),
		},
	})
	if err != nil {
		return artifact{}, fmt.Errorf("write artifact: %w", err)
	}
	return artifact{raw}, nil
}

// legacyTag is where a legacy signature of image lives.
func legacyTag(repo name.Repository, image v1.Hash) name.Tag {
	return repo.Tag(image.Algorithm + "-" + image.Hex + ".sig")
}

var simpleSigningType = types.MediaType(sigs.MediaTypeSimpleSigning)
