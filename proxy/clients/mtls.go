package clients

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/pullgate/pullgate/policy"
)

const (
	maxChain        = 4           // certificates that a client sends: each further one multiplies the possible chains
	maxCertificates = 10_000      // that are remembered
	foreignFor      = time.Minute // a certificate that does not count is remembered
)

// Certificates knows clients by certificates of the given authorities. The
// handshake asks for one and demands none: what is missing, foreign or over is
// said in an answer, which clients show, and not in an alert of TLS, which says
// less or nothing. A certificate is looked at for each request, so that neither a
// connection nor a resumed session outlives it, or the authority that a reload
// takes away. Safe for concurrent use.
type Certificates struct {
	issuing []*x509.Certificate
	roots   *x509.CertPool
	known   *memory[certificate]
	checks  chan struct{}
}

// certificate is what was found out about one: a name, or why it does not count.
type certificate struct {
	name string
	why  *wrong
}

// NewCertificates makes Certificates of authorities.
func NewCertificates(authorities []*x509.Certificate) *Certificates {
	return &Certificates{
		issuing: authorities,
		roots:   Pool(authorities),
		known:   newMemory[certificate](maxCertificates),
		checks:  make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
	}
}

// Roots are the authorities, for the handshake to name.
func (c *Certificates) Roots() *x509.CertPool { return c.roots }

// Authorities are those of the clients. The slice must not be changed.
func (c *Certificates) Authorities() []*x509.Certificate { return c.issuing }

// name is the client's name by the certificate at the head of chain, whose key
// the handshake has proven. Errors: *wrong; others are "could not tell".
func (c *Certificates) name(ctx context.Context, chain []*x509.Certificate, now time.Time) (string, error) {
	if len(chain) > maxChain {
		return "", &wrong{text: fmt.Sprintf("the client certificate comes with more than %d others", maxChain-1)}
	}

	h := sha256.New()
	for _, one := range chain {
		writePart(h, string(one.Raw))
	}
	id := sum(h.Sum(nil))
	found, ok := c.known.get(id, now)
	if !ok {
		select {
		case c.checks <- struct{}{}:
			defer func() { <-c.checks }()
		case <-ctx.Done():
			return "", ctx.Err()
		}
		var until time.Time
		found, until = c.check(chain, now)
		c.known.put(id, found, until)
	}
	if found.why != nil {
		return "", found.why
	}
	return found.name, nil
}

// check finds out about a certificate, and until when that holds.
func (c *Certificates) check(chain []*x509.Certificate, now time.Time) (certificate, time.Time) {
	refused := func(text string, cause error) (certificate, time.Time) {
		return certificate{why: &wrong{text, cause}}, now.Add(foreignFor)
	}
	leaf := chain[0]
	switch {
	case now.After(leaf.NotAfter):
		return refused("the client certificate has ended on "+leaf.NotAfter.UTC().Format(time.DateOnly), nil)
	case now.Before(leaf.NotBefore):
		return refused("the client certificate does not hold before "+leaf.NotBefore.UTC().Format(time.RFC3339), nil)
	}

	others := x509.NewCertPool()
	for _, one := range chain[1:] {
		others.AddCert(one)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots:         c.roots,
		Intermediates: others,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return refused("the client certificate is not one that this gate's certificate authority has issued "+
			"for clients", err)
	}
	name, err := nameOf(leaf)
	if err != nil {
		return refused("the client certificate names no client: "+err.Error(), nil)
	}
	return certificate{name: name}, endOf(chains)
}

// endOf is when the last of the chains ends.
func endOf(chains [][]*x509.Certificate) (end time.Time) {
	for _, chain := range chains {
		until := chain[0].NotAfter
		for _, one := range chain {
			if one.NotAfter.Before(until) {
				until = one.NotAfter
			}
		}
		if until.After(end) {
			end = until
		}
	}
	return end
}

// nameOf is what a certificate calls its client: its URI, else its first DNS name,
// else its common name. A URI that could pass for another kind of name, or one of
// several, is no name, and nothing stands in for it.
func nameOf(leaf *x509.Certificate) (string, error) {
	var name string
	switch {
	case len(leaf.URIs) > 1:
		return "", fmt.Errorf("it has %d URIs", len(leaf.URIs))
	case len(leaf.URIs) == 1:
		name = leaf.URIs[0].String()
		if !policy.IsNameURI(name) {
			return "", errors.New("its URI is none of SCHEME://… or urn:…")
		}
	case len(leaf.DNSNames) > 0:
		name = policy.DNSKind + ":" + strings.ToLower(leaf.DNSNames[0])
	default:
		name = policy.CommonKind + ":" + leaf.Subject.CommonName
	}

	if err := policy.CheckClientName(name); err != nil {
		return "", errors.New("it has no URI, DNS name or common name that can be printed")
	}
	return name, nil
}
