package sigs

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/pullgate/pullgate/verify/reason"
)

// pki is a PKI of the policy's own.
type pki struct {
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
	p := &pki{}
	material := a.pkiMaterial()
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

// pkiMaterial holds the certificate authorities of a PKI of the policy's own,
// and nothing that proves a time.
type pkiMaterial struct {
	*root.BaseTrustedMaterial
	authorities []root.CertificateAuthority
}

func (a *Authority) pkiMaterial() pkiMaterial {
	m := pkiMaterial{BaseTrustedMaterial: &root.BaseTrustedMaterial{}}
	for _, c := range a.policy.PKI.Roots {
		m.authorities = append(m.authorities, &root.FulcioCertificateAuthority{
			Root:          c,
			Intermediates: a.policy.PKI.Intermediates,
		})
	}
	return m
}

func (m pkiMaterial) FulcioCertificateAuthorities() []root.CertificateAuthority {
	return m.authorities
}

// byPKI adds to s which certificate of the PKI signed e.
func (a *Authority) byPKI(e *entity, image digest.Digest, s Signer) (Signer, error) {
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
	names := namesOf(e.leaf, authorities)
	i := slices.IndexFunc(names, a.policy.PKI.Subject.Match)
	if i < 0 {
		return Signer{}, because(reason.WrongIdentity, unlike(e.leaf, names, a.policy.PKI.Subject))
	}
	s.Subject = names[i]

	if a.pki.stamped == nil && a.pki.current == nil {
		return Signer{}, a.undecided(errors.New("its evidence cannot be checked"))
	}
	refused := because(reason.Timestamp, errors.New("no timestamp proves when it was made"))
	if a.pki.stamped != nil && len(e.stamps) > 0 {
		if refused = run(a.pki.stamped, e, image, verify.WithoutIdentitiesUnsafe()); refused == nil {
			return s.certifiedBy(e.leaf), nil
		}
	}
	if a.pki.current != nil {
		if refused = run(a.pki.current, e, image, verify.WithoutIdentitiesUnsafe()); refused == nil {
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
