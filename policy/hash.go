package policy

import (
	"crypto/sha256"
	"crypto/x509"
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
	h.text("pullgate policy 2")

	h.text(p.Name)
	h.number(len(p.Images))
	for _, g := range p.Images {
		h.text(g.String())
	}
	h.texts(p.Digests)
	h.number(len(p.Clients))
	for _, c := range p.Clients {
		h.text(c.String())
	}

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
	for i := range p.Authorities {
		h.authority(&p.Authorities[i])
	}
	h.number(len(p.Attestations))
	for i := range p.Attestations {
		h.attestation(&p.Attestations[i])
	}

	h.number(p.Threshold)
	h.number(len(p.Annotations))
	for _, key := range slices.Sorted(maps.Keys(p.Annotations)) {
		h.text(key)
		h.text(p.Annotations[key])
	}

	h.text(p.SignatureRepository.Host)
	h.text(p.SignatureRepository.Path)
	h.flag(p.OwnChildren)
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

func (h policyHash) flag(b bool) {
	if b {
		h.number(1)
		return
	}
	h.number(0)
}

func (h policyHash) attestation(a *Attestation) {
	h.text(a.Name)
	h.text(a.Type)
	h.texts(a.Authorities)
	if a.CEL != nil {
		h.text(a.CEL.String())
	} else {
		h.text("")
	}
}

func (h policyHash) authority(a *Authority) {
	h.text(a.Name)
	h.number(len(a.Keys))
	for _, k := range a.Keys {
		h.text(k.ID)
	}
	h.texts(a.KMS)

	h.number(len(a.Identities))
	for i := range a.Identities {
		h.identity(&a.Identities[i])
	}

	h.flag(a.PKI != nil)
	if a.PKI != nil {
		h.certificates(a.PKI.Roots)
		h.certificates(a.PKI.Intermediates)
		h.pattern(a.PKI.Subject)
		h.flag(a.PKI.SubjectEmail)
		h.flag(a.PKI.RequireTimestamp)
	}

	h.texts(a.TrustRoots)
	h.texts(a.Accept)
	h.flag(a.Required)
	h.flag(a.TransparencyLog)
	h.flag(a.Timestamp)
}

func (h policyHash) identity(i *Identity) {
	h.pattern(i.Issuer)
	h.pattern(i.Subject)
	h.flag(i.SubjectEmail)
	h.number(len(i.Claims))
	for _, name := range slices.Sorted(maps.Keys(i.Claims)) {
		h.text(name)
		h.pattern(i.Claims[name])
	}
	h.flag(i.GitHub != nil)
	if g := i.GitHub; g != nil {
		h.texts([]string{g.Server, g.Owner, g.Repository, g.Workflow, g.Ref, g.Trigger})
	}
}

func (h policyHash) pattern(p Pattern) {
	h.flag(p.IsExpression())
	h.text(p.text)
}

func (h policyHash) certificates(list []*x509.Certificate) {
	h.number(len(list))
	for _, c := range list {
		h.text(string(c.Raw))
	}
}
