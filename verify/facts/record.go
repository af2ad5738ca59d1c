package facts

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/verify/oci"
)

// This file holds what state files contain. A change that older files cannot be
// read with needs another stateVersion.

// Evidence is the signatures that made an image count, as a registry had them.
// They are verified again whenever they are used, under the policy and the keys
// of that moment. Its JSON is a record in state files.
type Evidence struct {
	FetchedAt  time.Time   `json:"at"` // when the registry last had them
	Signatures []Signature `json:"signatures"`
}

// Signature is one signature or attestation, untrusted. Its JSON is a record in
// state files.
type Signature struct {
	Format      Format            `json:"Kind"`
	Source      string            `json:"Source"` // where it was found, for people
	Payload     []byte            `json:"Payload"`
	Annotations map[string]string `json:"Annotations"`
}

// Format is the format of a Signature. The zero value is none.
type Format int

// The numbers are written into state files and must not change.
const (
	// SimpleSigning is a simple-signing payload, its signature in an annotation.
	SimpleSigning Format = 1
	// Bundle is a Sigstore bundle.
	Bundle Format = 2
	// Envelope is a DSSE envelope, its evidence in annotations.
	Envelope Format = 3
)

// Record is what a store keeps of e; nil when that is larger than
// MaxEvidenceBytes.
func (e *Evidence) Record() ([]byte, error) {
	record, err := json.Marshal(e)
	if err != nil || len(record) > MaxEvidenceBytes {
		return nil, err
	}
	return record, nil
}

// ReadEvidence returns the Evidence of a record; none for a record that it cannot
// read.
func ReadEvidence(record []byte) Evidence {
	var e Evidence
	if json.Unmarshal(record, &e) != nil {
		return Evidence{}
	}
	return e
}

// Within returns e if it is at most maxAge old at now, else none.
func (e Evidence) Within(now time.Time, maxAge time.Duration) Evidence {
	age := now.Sub(e.FetchedAt)
	if age < 0 || age > maxAge {
		return Evidence{}
	}
	return e
}

// ManifestRecord is what a store keeps of a manifest: its media type, a zero byte,
// and its bytes.
func ManifestRecord(m oci.Manifest) []byte {
	record := append([]byte(m.MediaType), 0)
	return append(record, m.Bytes...)
}

// ReadManifest copies the manifest d out of its record. It reports false when the
// bytes are not those of d.
func ReadManifest(record []byte, d digest.Digest) (oci.Manifest, bool) {
	mediaType, content, _ := bytes.Cut(record, []byte{0})
	if len(content) == 0 || oci.CheckDigest(d) != nil || d.Algorithm().FromBytes(content) != d {
		return oci.Manifest{}, false
	}

	return oci.Manifest{
		Bytes:     bytes.Clone(content),
		MediaType: string(mediaType),
		Digest:    d,
	}, true
}

// A list of parents is a sequence of digests, each after its length.

func encodeDigests(list []digest.Digest) []byte {
	var record []byte
	for _, d := range list {
		record = binary.AppendUvarint(record, uint64(len(d)))
		record = append(record, d...)
	}
	return record
}

// decodeDigests reads as far as the record makes sense. A torn list is harmless:
// every parent is only a hint.
func decodeDigests(record []byte) []digest.Digest {
	var list []digest.Digest
	for len(record) > 0 {
		n, used := binary.Uvarint(record)
		if used <= 0 || n > uint64(len(record)-used) {
			return list
		}

		end := used + int(n)
		list = append(list, digest.Digest(record[used:end]))
		record = record[end:]
	}
	return list
}

// decodeNumber returns 0 for a record that is no number.
func decodeNumber(record []byte) uint64 {
	n, used := binary.Uvarint(record)
	if used <= 0 {
		return 0
	}
	return n
}
