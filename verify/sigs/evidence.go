package sigs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/pullgate/pullgate/verify/reason"
)

// count counts the evidence before any of it is looked at.
func (e *entity) count() error {
	switch {
	case len(e.logEntries) > maxLogEntries:
		return fmt.Errorf("its bundle holds more than %d log entries", maxLogEntries)
	case len(e.stamps) > maxTimestamps:
		return fmt.Errorf("its bundle holds more than %d timestamps", maxTimestamps)
	case len(e.certificates) > maxCertificates:
		return fmt.Errorf("its bundle holds more than %d certificates", maxCertificates)
	}
	return nil
}

// prove reads the evidence, once: it counts and measures all of it before any
// is computed with, and parses the certificates.
func (e *entity) prove() error {
	if !e.proved {
		e.proved = true
		e.broken = because(reason.Certificate, e.evidence())
	}

	return e.broken
}

func (e *entity) evidence() error {
	if e.annotations != nil {
		if err := e.annotated(); err != nil {
			return because(reason.Unreadable, err)
		}
	}
	if err := e.count(); err != nil {
		return because(reason.Limit, err)
	}
	if err := e.checkVersion(); err != nil {
		return because(reason.LogEntry, err)
	}

	if err := e.readCertificates(); err != nil {
		return err
	}
	for _, t := range e.logEntries {
		if err := boundLogEntry(t); err != nil {
			return because(reason.LogEntry, err)
		}
	}
	for _, token := range e.stamps {
		if err := boundTimestamp(token); err != nil {
			return because(reason.Timestamp, err)
		}
	}
	return nil
}

// checkVersion checks that a bundle's log entries bring what its version demands
// (sigstore bundle specification).
func (e *entity) checkVersion() error {
	if !e.bundled || len(e.logEntries) == 0 {
		return nil
	}

	switch {
	case e.version == "v0.1" && !e.HasInclusionPromise():
		return errors.New("its bundle is of version 0.1 and lacks the log's promise of inclusion")
	case e.version != "v0.1" && !e.HasInclusionProof():
		return errors.New("its bundle lacks the log's proof of inclusion")
	}
	return nil
}

// readCertificates parses the certificates within their bounds: the leaf, and of
// the others those that lead upwards from it.
func (e *entity) readCertificates() error {
	if len(e.certificates) == 0 {
		if e.certified {
			return errors.New("it says that a certificate's owner signed, and brings none")
		}
		return nil
	}

	var all []*x509.Certificate
	for _, raw := range e.certificates {
		c, err := parseCertificate(raw)
		if err != nil {
			return err
		}
		all = append(all, c)
	}
	leaf := e.leafOf(all)
	if err := maySign(leaf); err != nil {
		return err
	}

	var chain []*x509.Certificate
	for _, c := range all {
		switch {
		case c.Equal(leaf): // a chain file often begins with the leaf
		case !c.IsCA:
			return errors.New("its certificate chain holds a certificate that is no CA's")
		default:
			chain = append(chain, c)
		}
	}

	e.leaf, e.chain = leaf, upwards(leaf, chain)
	return nil
}

// leafOf is the signer's certificate. In a bundle it is the first (sigstore
// bundle specification). What was attached to a legacy signature are files, in
// which it may stand anywhere: it is the first that is no CA's.
func (e *entity) leafOf(all []*x509.Certificate) *x509.Certificate {
	if !e.bundled {
		for _, c := range all {
			if !c.IsCA {
				return c
			}
		}
	}

	return all[0]
}

// costly reports evidence beyond what a signature brings as a rule: one log
// entry, one timestamp, and a P-256 key. sigstore-go looks at all of it before
// it looks at the certificate's chain, and a certificate that its own maker
// issued can name anyone.
func (e *entity) costly() bool {
	key, ok := e.leaf.PublicKey.(*ecdsa.PublicKey)

	return len(e.logEntries) > 1 || len(e.stamps) > 1 || !ok || key.Curve != elliptic.P256()
}
