package sigs

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/reason"
)

// pki is a PKI of the policy's own. Its verifiers say what evidence is there
// and which times it proves.
type pki struct {
	roots   pkiRoots
	stamped *verify.Verifier // time is proven by a timestamp; nil: no trust root for it
	current *verify.Verifier // the chain is valid now; nil: a timestamp is demanded
}

// forPKI prepares the checks of the policy's own PKI.
func (a *Authority) forPKI(roots []*Root) error {
	p, err := a.newPKI(roots)
	if err != nil {
		return err
	}

	a.pki = p
	return nil
}

func (a *Authority) newPKI(roots []*Root) (*pki, error) {
	p := &pki{roots: a.pkiRoots()}
	material := &root.BaseTrustedMaterial{} // the verifiers look at evidence alone
	if len(roots) == 0 {
		if a.needsRoot() {
			return p, nil
		}
		v, err := newVerifier(material, verify.WithCurrentTime())
		if err != nil {
			return nil, fmt.Errorf("its PKI: %w", err)
		}
		p.current = v
		return p, nil
	}

	stamped := demands{logEntry: a.policy.TransparencyLog, timestamp: true}
	demandStamp := a.policy.PKI.RequireTimestamp || a.policy.Timestamp
	if demandStamp || roots[0].hasStamp() {
		v, err := roots[0].evidenceVerifier(material, stamped, nil)
		if err != nil {
			return nil, err
		}
		p.stamped = v
	}
	if !demandStamp {
		v, err := roots[0].evidenceVerifier(material, a.demands(), verify.WithCurrentTime())
		if err != nil {
			return nil, fmt.Errorf("its PKI: %w", err)
		}
		p.current = v
	}
	return p, nil
}

// pkiRoots are the certificate authorities of a PKI of the policy's own. They
// prove no time.
type pkiRoots []*root.FulcioCertificateAuthority

func (a *Authority) pkiRoots() pkiRoots {
	var list pkiRoots
	for _, c := range a.policy.PKI.Roots {
		list = append(list, &root.FulcioCertificateAuthority{
			Root:          c,
			Intermediates: a.policy.PKI.Intermediates,
		})
	}
	return list
}

// verify verifies all of e: the evidence, the certificate at every time that is
// proven, and the signature in any way in which the certificate's key signs.
// sigstore-go's own order is kept; it knows one way for each kind of key, and
// not the one in which cosign signs with Ed25519.
func (p *pki) verify(e *entity, evidence *verify.Verifier) error {
	logged, err := evidence.VerifyTransparencyLogInclusion(e)
	if err != nil {
		return stepLog.failed(err.Error())
	}
	times, err := evidence.VerifyObserverTimestamps(e, logged)
	if err != nil || len(times) == 0 {
		return stepTimestamp.failed(fmt.Sprint(err))
	}

	for _, at := range times {
		if !p.roots.issued(e.leaf, e.chain, at.Timestamp) {
			return stepCertificate.failed("")
		}
	}

	k, err := newKey(policy.Key{Public: e.leaf.PublicKey, Source: "of its certificate"})
	if err != nil {
		return because(reason.Certificate, errors.New("its certificate's key is of an unknown kind"))
	}
	_, err = keyring{k}.signed(e)
	return err
}

// issued reports whether one of the roots issued leaf, which was valid at
// this time, with every certificate above it. What may be above it is chain.
func (r pkiRoots) issued(leaf *x509.Certificate, chain []*x509.Certificate, at time.Time) bool {
	readable := *leaf // Go does not read every form of name; those are not compared
	readable.UnhandledCriticalExtensions = slices.DeleteFunc(
		slices.Clone(leaf.UnhandledCriticalExtensions),
		cryptoutils.SANOID.Equal,
	)

	return slices.ContainsFunc(r, func(known *root.FulcioCertificateAuthority) bool {
		with := *known
		with.Intermediates = slices.Concat(known.Intermediates, chain)
		_, err := with.Verify(&readable, at)
		return err == nil
	})
}

// byPKI adds to s which certificate of the PKI signed e.
func (a *Authority) byPKI(e *entity, s Signer) (Signer, error) {
	if !e.certified {
		return Signer{}, because(
			reason.WrongScheme,
			errors.New("it was made with a key, and this authority trusts certificates"),
		)
	}
	if err := e.prove(); err != nil {
		return Signer{}, err
	}

	authorities := slices.Concat(e.chain, a.policy.PKI.Intermediates, a.policy.PKI.Roots)
	names := namesOf(e.leaf, authorities, a.policy.PKI)
	i := slices.IndexFunc(names, a.policy.PKI.Subject.Match)
	if i < 0 {
		return Signer{}, because(reason.WrongIdentity, unlike(e.leaf, names, a.policy.PKI))
	}
	s.Subject = names[i]

	if a.pki.stamped == nil && a.pki.current == nil {
		return Signer{}, a.undecided(errors.New("its evidence cannot be checked"))
	}
	refused := because(reason.Timestamp, errors.New("no timestamp proves when it was made"))
	if a.pki.stamped != nil && len(e.stamps) > 0 {
		if refused = a.pki.verify(e, a.pki.stamped); refused == nil {
			return s.certifiedBy(e.leaf), nil
		}
	}
	if a.pki.current != nil {
		if refused = a.pki.verify(e, a.pki.current); refused == nil {
			s.Until = soonest(e.leaf, authorities)
			return s.certifiedBy(e.leaf), nil
		}
	}

	if now := time.Now(); now.After(e.leaf.NotAfter) && len(e.stamps) == 0 {
		return Signer{}, fmt.Errorf(
			"its certificate ended on %s, and no timestamp proves that it was made before (%w)",
			e.leaf.NotAfter.UTC().Format(time.DateOnly),
			refused,
		)
	}
	return Signer{}, a.undecided(refused)
}
