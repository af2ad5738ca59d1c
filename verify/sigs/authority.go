package sigs

import (
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/pullgate/pullgate/policy"
)

// Trust is what authorities trust that is not written in a policy. A root or a
// key that is missing has not been loaded yet.
type Trust struct {
	Roots map[string]*Root      // by name
	Keys  map[string]policy.Key // by reference to a key service
}

// Generation identifies the roots and keys that a names, as they are now; empty
// when the policy itself says all there is.
func (t Trust) Generation(a policy.Authority) string {
	var parts []string
	for _, name := range a.TrustRoots {
		part := "-"
		if r := t.Roots[name]; r != nil {
			part = r.fingerprint
		}
		parts = append(parts, part)
	}
	for _, reference := range a.KMS {
		part := "-" // written out: the next authority's key must not be taken for this one's
		if key, ok := t.Keys[reference]; ok {
			part = key.ID
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ",")
}

// Authority verifies what one policy authority may have signed. It is immutable
// and safe for concurrent use.
type Authority struct {
	policy policy.Authority
	types  []string // predicate types worth verifying: those that count for something

	keys    keyring
	witness []*verify.Verifier // of each key, when evidence is demanded
	roots   []issuing          // for identities
	pki     *pki
	missing []string // roots and keys that have not been loaded
}

// issuing is a trust root with the way its certificates are verified.
type issuing struct {
	root     *Root
	verifier *verify.Verifier
}

// pki is a PKI of the policy's own.
type pki struct {
	stamped *verify.Verifier // time is proven by a timestamp; nil: no trust root for it
	current *verify.Verifier // the chain is valid now; nil: a timestamp is demanded
}

// NewAuthority prepares an authority. types are the predicate types that count
// for something when it signed them, beside those it accepts itself. An error
// means that the policy demands what its trust root cannot give.
func NewAuthority(p policy.Authority, types []string, trust Trust) (*Authority, error) {
	a := &Authority{policy: p, types: slices.Concat(p.Accept, types)}
	for _, k := range p.Keys {
		if err := a.addKey(k); err != nil {
			return nil, err
		}
	}
	for _, reference := range p.KMS {
		k, ok := trust.Keys[reference]
		if !ok {
			a.missing = append(a.missing, "key "+reference)
			continue
		}
		if err := a.addKey(k); err != nil {
			return nil, err
		}
	}
	var roots []*Root
	for _, name := range p.TrustRoots {
		r := trust.Roots[name]
		if r == nil {
			a.missing = append(a.missing, "trust root "+name)
			continue
		}
		roots = append(roots, r)
	}
	switch {
	case len(p.Identities) > 0:
		return a, a.forIdentities(roots)
	case p.PKI != nil:
		return a, a.forPKI(roots)
	case len(p.Keys)+len(p.KMS) == 0:
		return nil, errors.New("it has no key")
	}
	return a, a.forKeys(roots)
}

func (a *Authority) addKey(p policy.Key) error {
	k, err := newKey(p)
	if err == nil {
		a.keys = append(a.keys, k)
	}
	return err
}

func (a *Authority) forIdentities(roots []*Root) error {
	for _, r := range roots {
		v, err := r.forCertificates(a.policy.TransparencyLog, a.policy.Timestamp)
		if err != nil {
			return err
		}
		a.roots = append(a.roots, issuing{r, v})
	}
	return nil
}

// needsRoot reports whether nothing can count without the trust root.
func (a *Authority) needsRoot() bool {
	return a.policy.TransparencyLog || a.policy.Timestamp || a.policy.PKI != nil && a.policy.PKI.RequireTimestamp
}

func (a *Authority) forKeys(roots []*Root) error {
	if !a.needsRoot() || len(roots) == 0 {
		return nil
	}
	for _, k := range a.keys {
		v, err := roots[0].beside(
			k.material(),
			a.policy.TransparencyLog,
			a.policy.Timestamp,
			verify.WithNoObserverTimestamps(),
		)
		if err != nil {
			return err
		}
		a.witness = append(a.witness, v)
	}
	return nil
}

func (a *Authority) forPKI(roots []*Root) error {
	p := a.policy.PKI
	material := pkiMaterial{BaseTrustedMaterial: &root.BaseTrustedMaterial{}}
	for _, c := range p.Roots {
		material.authorities = append(material.authorities, &root.FulcioCertificateAuthority{
			Root:          c,
			Intermediates: p.Intermediates,
		})
	}
	a.pki = &pki{}
	demandStamp := p.RequireTimestamp || a.policy.Timestamp
	var err error
	switch {
	case len(roots) > 0:
		if demandStamp || roots[0].hasStamp() {
			if a.pki.stamped, err = roots[0].beside(material, a.policy.TransparencyLog, true, nil); err != nil {
				return err
			}
		}
		if !demandStamp {
			a.pki.current, err = roots[0].beside(material, a.policy.TransparencyLog, false, verify.WithCurrentTime())
		}
	case !a.needsRoot():
		a.pki.current, err = newVerifier(material, verify.WithCurrentTime())
	}
	if err != nil {
		return fmt.Errorf("its PKI: %w", err)
	}
	return nil
}

type pkiMaterial struct {
	*root.BaseTrustedMaterial
	authorities []root.CertificateAuthority
}

func (m pkiMaterial) FulcioCertificateAuthorities() []root.CertificateAuthority {
	return m.authorities
}

// ErrNotLoaded is wrapped by Verify's errors about what might have counted, had
// a root or a key been loaded that is not. Any other error is final.
var ErrNotLoaded = errors.New("not loaded")

// undecided adds to a reason that something is missing which might have
// spoken against it.
func (a *Authority) undecided(reason error) error {
	if len(a.missing) == 0 {
		return reason
	}
	return fmt.Errorf("%w (%s: %w)", reason, strings.Join(a.missing, " and "), ErrNotLoaded)
}

// Incomplete says what has not been loaded yet; nil means that whatever the
// authority does not admit is really refused.
func (a *Authority) Incomplete() error {
	if len(a.missing) == 0 {
		return nil
	}
	return fmt.Errorf("%s is not loaded", strings.Join(a.missing, " and "))
}

// Name is the policy's name for the authority.
func (a *Authority) Name() string { return a.policy.Name }

// Accepts reports whether what s says counts as the authority's signature.
func (a *Authority) Accepts(s Signer) bool { return slices.Contains(a.policy.Accept, s.PredicateType) }

// Verify says who of the authority signed what was read, or why it does not
// count. The error is one line for the person whose pull was refused; it quotes
// untrusted text only shortened and escaped. What the statement is good for is
// the caller's to say.
func (a *Authority) Verify(r *Reading) (Signer, error) {
	s := r.says
	if !slices.Contains(a.types, s.PredicateType) {
		if s.PredicateType == signPredicate {
			return Signer{}, errors.New("it is a signature, and this authority accepts only attestations")
		}
		return Signer{}, fmt.Errorf("it is an attestation (%.80q), not a signature", s.PredicateType)
	}
	var err error
	switch {
	case len(a.policy.Identities) > 0:
		err = a.byIdentity(r.entity, r.image, &s)
	case a.pki != nil:
		err = a.byPKI(r.entity, r.image, &s)
	default:
		err = a.byKey(r.entity, r.image, &s)
	}
	if err != nil {
		return Signer{}, err
	}
	return s, nil
}

func (a *Authority) byKey(e *entity, image digest.Digest, s *Signer) error {
	if e.certified && e.bundled {
		return errCertificate
	}
	who, err := a.keys.signed(e)
	if err != nil {
		if e.certified {
			err = errCertificate
		}
		if len(a.keys) < len(a.policy.Keys)+len(a.policy.KMS) {
			return a.undecided(err)
		}
		return err
	}
	if a.needsRoot() { // else the signature is all that is asked for
		if len(a.witness) == 0 {
			return a.undecided(errors.New("its evidence cannot be checked"))
		}
		if err := e.prove(); err != nil {
			return err
		}
		i := slices.IndexFunc(a.keys, func(k key) bool { return k.ID == who.ID })
		if err := run(a.witness[i], e.keyed(), image, verify.WithKey()); err != nil {
			return err
		}
	}
	s.KeyID, s.KeySource, s.key = who.ID, who.Source, who.ID
	return nil
}

var errCertificate = errors.New("it was made with a certificate (keyless), and this authority trusts keys")

func (a *Authority) byIdentity(e *entity, image digest.Digest, s *Signer) error {
	if !e.certified {
		return errors.New("it was made with a key, and this authority trusts identities (keyless)")
	}
	if err := e.prove(); err != nil {
		return err
	}
	claims, err := claimsOf(e.leaf)
	if err != nil {
		return err
	}
	// Nothing of the certificate is verified yet; whom it names decides whether
	// that is worth the time.
	if err := a.anyIdentity(claims); err != nil {
		return err
	}
	reason := fmt.Errorf(
		"its certificate was issued by %.120q, which is none of the trust roots (%s)",
		e.leaf.Issuer.String(),
		strings.Join(a.policy.TrustRoots, ", "),
	)
	for _, r := range a.roots {
		if !r.root.issued(e.leaf, e.chain) {
			continue
		}
		if e.costly() && !r.root.signed(e.leaf, e.chain) {
			reason = errors.New("its certificate was not issued by the trusted authority")
		} else if reason = run(r.verifier, e, image, verify.WithoutIdentitiesUnsafe()); reason == nil {
			s.Subject, s.Issuer = claims.Subject, claims.Issuer
			s.certified(e.leaf)
			return nil
		}
		reason = fmt.Errorf("it names %s, but %w", Signer{Subject: claims.Subject, Issuer: claims.Issuer}, reason)
	}
	return a.undecided(reason)
}

func (a *Authority) anyIdentity(claims policy.Claims) error {
	var reasons []string
	for i := range a.policy.Identities {
		err := a.policy.Identities[i].Match(claims)
		if err == nil {
			return nil
		}
		if len(reasons) < maxIdentityReasons {
			reasons = append(reasons, err.Error())
		}
	}
	return fmt.Errorf("it names another identity, %s: %s", Signer{
		Subject: claims.Subject,
		Issuer:  claims.Issuer,
	}, strings.Join(reasons, "; "))
}

const maxIdentityReasons = 3

func (a *Authority) byPKI(e *entity, image digest.Digest, s *Signer) error {
	if !e.certified {
		return errors.New("it was made with a key, and this authority trusts certificates")
	}
	if err := e.prove(); err != nil {
		return err
	}
	authorities := slices.Concat(e.chain, a.policy.PKI.Intermediates, a.policy.PKI.Roots)
	names := namesOf(e.leaf, authorities)
	i := slices.IndexFunc(names, a.policy.PKI.Subject.Match)
	if i < 0 {
		return unlike(e.leaf, names, a.policy.PKI.Subject)
	}
	reason := errors.New("no timestamp proves when it was made")
	if a.pki.stamped != nil && len(e.stamps) > 0 {
		if reason = run(a.pki.stamped, e, image, verify.WithoutIdentitiesUnsafe()); reason == nil {
			s.Subject = names[i]
			s.certified(e.leaf)
			return nil
		}
	}
	switch {
	case a.pki.current != nil:
		if reason = run(a.pki.current, e, image, verify.WithoutIdentitiesUnsafe()); reason == nil {
			s.Subject, s.Until = names[i], soonest(e.leaf, authorities)
			s.certified(e.leaf)
			return nil
		}
	case a.pki.stamped == nil:
		return a.undecided(errors.New("its evidence cannot be checked"))
	}
	if now := time.Now(); now.After(e.leaf.NotAfter) && len(e.stamps) == 0 {
		return fmt.Errorf(
			"its certificate ended on %s, and no timestamp proves that it was made before (%w)",
			e.leaf.NotAfter.UTC().Format(time.DateOnly),
			reason,
		)
	}
	return a.undecided(reason)
}

// soonest is when the first of the certificates ends that lead from leaf to a
// root.
func soonest(leaf *x509.Certificate, others []*x509.Certificate) time.Time {
	end := leaf.NotAfter
	for _, c := range above(leaf, others) {
		if c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	return end
}

// run has sigstore-go verify everything of e: evidence, certificate, signature.
func run(v *verify.Verifier, e *entity, image digest.Digest, who verify.PolicyOption) error {
	raw, err := hex.DecodeString(image.Encoded())
	if err != nil {
		return errors.New("the image's digest is not hex")
	}
	if _, err = v.Verify(e, verify.NewPolicy(e.artifact(image, raw), who)); err != nil {
		return plainly(err)
	}
	return nil
}

// plainly says which step of sigstore-go's verification failed, for a person.
func plainly(err error) error {
	text := err.Error()
	for _, step := range []struct{ prefix, words string }{
		{"failed to verify log inclusion", "no transparency log entry proves it"},
		{"failed to verify timestamps", "no trusted timestamp proves when it was made"},
		{
			"failed to verify leaf certificate",
			"its certificate was not issued by the trusted authority, or was not valid when it was made",
		},
		{"failed to verify signed certificate timestamp", "its certificate is in no trusted certificate log"},
		{"failed to verify signature", "it was made by another key, or altered"},
	} {
		if rest, ok := strings.CutPrefix(text, step.prefix); ok {
			return fmt.Errorf("%s%s", step.words, detail(rest))
		}
	}
	return fmt.Errorf("it cannot be verified%s", detail(text))
}

// detail is what sigstore-go adds, without what is for its programmers: dumps
// of bytes, and errors that were none.
func detail(text string) string {
	for _, noise := range []string{"[", "%!", "; error:"} {
		text, _, _ = strings.Cut(text, noise)
	}
	text = strings.TrimRight(strings.TrimPrefix(text, ": "), " :;,")
	if text == "" {
		return ""
	}
	return fmt.Sprintf(" (%.160s)", printable(text))
}
