package sigs

import (
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"
	"time"

	"github.com/digitorus/pkcs7"
	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/pullgate/pullgate/policy"
)

// TestCertificateLogs: a root that has certificate logs demands their timestamp
// in every certificate.
func TestCertificateLogs(t *testing.T) {
	t.Parallel()
	k := newKeyless(t)
	log, foreign := certificateLog{newECDSA(t, elliptic.P256())}, certificateLog{newECDSA(t, elliptic.P256())}
	strict := trusting(t, []*Root{rootOf("local", k.stack, k.fulcio, func(m *material) { m.logs = log.trusted(t) })})
	key := newECDSA(t, elliptic.P256())
	names := []template{email(somebody), by(someIssuer)}
	s := signing{stack: k.stack, key: key, leaf: log.leaf(t, k.fulcio, key.Public(), names...)}
	for name, c := range s.formats(t, k.image) {
		t.Run("logged/"+name, func(t *testing.T) { allowed(t, strict, c, k.image) })
	}
	for name, leaf := range map[string]*x509.Certificate{
		"in no log":      k.fulcio.leaf(t, key.Public(), names...),
		"in another log": foreign.leaf(t, k.fulcio, key.Public(), names...),
		"another's promise": k.fulcio.leaf(t, key.Public(), append(names, func(c *x509.Certificate) {
			for _, e := range s.leaf.Extensions {
				if e.Id.String() == "1.3.6.1.4.1.11129.2.4.2" {
					c.ExtraExtensions = append(c.ExtraExtensions, e)
				}
			}
		})...),
	} {
		for format, c := range altered(s, func(s *signing) { s.leaf = leaf }).formats(t, k.image) {
			t.Run(name+"/"+format, func(t *testing.T) {
				denied(t, strict, c, k.image, "is in no trusted certificate log")
				allowed(t, k.trust(t), c, k.image)
			})
		}
	}
}

// TestRootWithoutLog: a root without a log demands a timestamp, like GitHub's own
// for private repositories.
func TestRootWithoutLog(t *testing.T) {
	t.Parallel()
	k := newKeyless(t)
	a := trusting(t, []*Root{rootOf("github", k.stack, k.fulcio, func(m *material) { m.noLog = true })})
	good := altered(k.signed(t), func(s *signing) { s.unlogged = true })
	for name, c := range good.formats(t, k.image) {
		t.Run("stamped/"+name, func(t *testing.T) { allowed(t, a, c, k.image) })
	}
	for name, c := range altered(k.signed(t), func(s *signing) { s.unstamped = true }).formats(t, k.image) {
		t.Run("logged only/"+name, func(t *testing.T) { denied(t, a, c, k.image, "no trusted timestamp") })
	}
	expired := k.signed(t, email(somebody), by(someIssuer), valid(-30*time.Minute, -20*time.Minute))
	for name, c := range altered(expired, func(s *signing) { s.unlogged = true }).formats(t, k.image) {
		t.Run("stamped after the end/"+name, func(t *testing.T) { denied(t, a, c, k.image, "was not valid when") })
	}
}

func TestRootChoice(t *testing.T) {
	t.Parallel()
	one, two, none := newKeyless(t), newKeyless(t), newKeyless(t)
	two.fulcio = newIssuer(t, "two's", newIssuer(t, "two's root", nil))
	roots := []*Root{rootOf("one", one.stack, one.fulcio), rootOf("two", two.stack, two.fulcio)}
	a := trusting(t, roots)
	for _, k := range []keyless{one, two} {
		for name, c := range k.signed(t).formats(t, one.image) {
			t.Run(name, func(t *testing.T) { allowed(t, a, c, one.image) })
		}
	}
	// One root's certificate with the other's log and timestamps.
	mixed := altered(one.signed(t), func(s *signing) { s.stack = two.stack })
	for name, c := range mixed.formats(t, one.image) {
		t.Run("mixed/"+name, func(t *testing.T) { denied(t, a, c, one.image, "no transparency log entry") })
	}
	// A third that bears the names of the first.
	for name, c := range none.signed(t).formats(t, one.image) {
		t.Run("same names/"+name, func(t *testing.T) { denied(t, a, c, one.image, "") })
	}
	// Its own intermediate, which leads nowhere.
	for name, c := range altered(none.signed(t), func(s *signing) {
		s.stack, s.chain = one.stack, []*x509.Certificate{none.fulcio.cert, none.fulcio.parent.cert}
	}).formats(t, one.image) {
		t.Run(
			"brings its root/"+name,
			func(t *testing.T) { denied(t, a, c, one.image, "was not issued by the trusted authority") },
		)
	}
}

func TestAttachedIntermediate(t *testing.T) {
	t.Parallel()
	k := newKeyless(t)
	onlyRoot := trusting(t, []*Root{rootOf("local", k.stack, k.fulcio.parent)})
	for name, c := range k.signed(t).formats(t, k.image) {
		t.Run("missing/"+name, func(t *testing.T) { denied(t, onlyRoot, c, k.image, "none of the trust roots") })
	}
	for name, c := range altered(k.signed(t), func(s *signing) {
		s.chain = []*x509.Certificate{
			k.fulcio.parent.cert,
			k.fulcio.cert,
		}
	}).formats(t, k.image) {
		t.Run("there/"+name, func(t *testing.T) { allowed(t, onlyRoot, c, k.image) })
	}
}

// TestRootWindows: what a root trusted only until yesterday proves nothing
// today (CVE-2026-54787 is the same of keys).
func TestRootWindows(t *testing.T) {
	t.Parallel()
	k := newKeyless(t)
	past := time.Now().Add(-2 * time.Minute)
	for name, test := range map[string]struct {
		change func(*material)
		want   string
	}{
		"certificate authority": {func(m *material) {
			m.authorities[0].(*root.FulcioCertificateAuthority).ValidityPeriodEnd = past
		}, "was not issued by the trusted authority"},
		"log": {
			func(m *material) { m.TrustedMaterial = ended{k.stack, past} },
			"no transparency log entry proves it",
		},
		"timestamp authority": {
			func(m *material) { m.noLog, m.TrustedMaterial = true, ended{k.stack, past} },
			"no trusted timestamp",
		},
	} {
		a := trusting(t, []*Root{rootOf("local", k.stack, k.fulcio, test.change)})
		for format, c := range k.signed(t).formats(t, k.image) {
			t.Run(name+"/"+format, func(t *testing.T) { denied(t, a, c, k.image, test.want) })
		}
	}
}

// ended is a stack whose log and timestamp authority are trusted until at only.
type ended struct {
	stack
	at time.Time
}

func (e ended) RekorLogs() map[string]*root.TransparencyLog {
	logs := e.stack.RekorLogs()
	for _, l := range logs {
		l.ValidityPeriodEnd = e.at
	}
	return logs
}

func (e ended) TimestampingAuthorities() []root.TimestampingAuthority {
	one := *e.stack.TimestampingAuthorities()[0].(*root.SigstoreTimestampingAuthority)
	one.ValidityPeriodEnd = e.at
	return []root.TimestampingAuthority{&one}
}

// TestTimestampSigner: CVE-2026-39984, a token of another signer that holds the
// authority's certificate beside its own, or is named like it.
func TestTimestampSigner(t *testing.T) {
	t.Parallel()
	k := newKeyless(t)
	a := k.trust(t, func(p *policy.Authority) { p.Timestamp = true })
	genuine := k.TimestampingAuthorities()[0].(*root.SigstoreTimestampingAuthority).Leaf
	forger := newECDSA(t, elliptic.P256())
	like := &x509.Certificate{
		SerialNumber: genuine.SerialNumber,
		NotBefore:    genuine.NotBefore,
		NotAfter:     genuine.NotAfter,
		RawSubject:   genuine.RawIssuer,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping},
	}
	alike := certificateBy(t, like, &issuer{key: forger}, like, forger.Public())
	mine := k.fulcio.leaf(t, forger.Public(), func(c *x509.Certificate) {
		c.Subject, c.ExtKeyUsage = pkix.Name{
			CommonName: "a timestamper",
		}, []x509.ExtKeyUsage{
			x509.ExtKeyUsageTimeStamping,
		}
	})
	for name, forge := range map[string]struct {
		signer *x509.Certificate
		beside []*x509.Certificate
	}{
		"the authority's beside his own": {mine, []*x509.Certificate{genuine}},
		"his own alone":                  {mine, nil},
		"one named like the authority's": {alike, nil},
		"that and the authority's":       {alike, []*x509.Certificate{genuine}},
	} {
		s := altered(k.signed(t), func(s *signing) {
			s.stamp = func(signature []byte) []byte {
				return resigned(t, must(k.TimestampResponse(signature)), forge.signer, forger, forge.beside)
			}
		})
		for format, c := range s.formats(t, k.image) {
			t.Run(name+"/"+format, func(t *testing.T) { denied(t, a, c, k.image, "timestamp") })
		}
	}
}

// resigned is a token with another signature over what it says.
func resigned(
	t testing.TB,
	response []byte,
	signer *x509.Certificate,
	key crypto.Signer,
	beside []*x509.Certificate,
) []byte {
	t.Helper()
	var r struct {
		Status asn1.RawValue
		Token  asn1.RawValue
	}
	if _, err := asn1.Unmarshal(response, &r); err != nil {
		t.Fatal(err)
	}
	said, err := pkcs7.Parse(r.Token.FullBytes)
	if err != nil {
		t.Fatal(err)
	}
	token, err := pkcs7.NewSignedData(said.Content)
	if err != nil {
		t.Fatal(err)
	}
	token.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	token.SetContentType(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4})
	for _, c := range beside {
		token.AddCertificate(c)
	}
	if err := token.AddSigner(signer, key, pkcs7.SignerInfoConfig{}); err != nil {
		t.Fatal(err)
	}
	der, err := token.Finish()
	if err != nil {
		t.Fatal(err)
	}
	r.Token = asn1.RawValue{FullBytes: der}
	return must(asn1.Marshal(r))
}
