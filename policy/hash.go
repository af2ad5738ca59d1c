package policy

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"maps"
	"slices"
)

// hashPolicy is the lower-case hex SHA-256 of every field that can change a
// verdict or its reasons. Every string and list has its length before it, so
// that no two policies encode alike. Where and Key.Source are left out: moving
// a policy or a key file is no reason to verify again; Key.ID stands for
// Key.Public.
func hashPolicy(p *Policy) string {
	h := policyHash{sha256.New()}
	h.text("pullgate policy 1")
	h.text(p.Name)
	h.number(len(p.Images))
	for _, g := range p.Images {
		h.text(g.String())
	}
	h.texts(p.Digests)
	h.number(int(p.Static))
	h.number(int(p.Mode))
	if p.Expires.IsZero() {
		h.number(0)
	} else {
		h.number(1)
		h.number(int(p.Expires.Unix()))
		h.number(p.Expires.Nanosecond())
	}
	h.number(len(p.Authorities))
	for _, a := range p.Authorities {
		h.text(a.Name)
		h.number(len(a.Keys))
		for _, k := range a.Keys {
			h.text(k.ID)
		}
	}
	h.number(p.Threshold)
	h.number(len(p.Annotations))
	for _, key := range slices.Sorted(maps.Keys(p.Annotations)) {
		h.text(key)
		h.text(p.Annotations[key])
	}
	h.text(p.SignatureRepository.Host)
	h.text(p.SignatureRepository.Path)
	if p.OwnChildren {
		h.number(1)
	} else {
		h.number(0)
	}
	return hex.EncodeToString(h.Sum(nil))
}

type policyHash struct{ hash.Hash }

func (h policyHash) number(n int) {
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(n)))
}

func (h policyHash) text(s string) {
	h.number(len(s))
	h.Write([]byte(s))
}

func (h policyHash) texts(list []string) {
	h.number(len(list))
	for _, s := range list {
		h.text(s)
	}
}
