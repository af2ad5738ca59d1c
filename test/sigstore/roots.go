package sigstore

import (
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/sigstore/rekor-tiles/v2/pkg/note"
	"github.com/sigstore/sigstore-go/pkg/root"
)

const rekorV2Origin = "rekor2.acme.example"

// writeRoots writes the trusted roots. They name no address of this run, so
// that they can be kept.
func (s *Stack) writeRoots() error {
	s.Root, s.RootGitHub = s.file("trusted_root.json"), s.file("trusted_root_github.json")
	ct := map[string]*root.TransparencyLog{
		hex.EncodeToString(s.ctLog.id[:]): trustedLog(
			"https://ctlog.acme.example",
			s.ctLog.id[:],
			&s.ctLog.key.PublicKey,
		),
	}
	logs, err := s.trustedLogs()
	if err != nil {
		return fmt.Errorf("name the transparency logs: %w", err)
	}
	cas := []root.CertificateAuthority{trustedCA("https://fulcio.acme.example", s.ca)}
	tsas := []root.TimestampingAuthority{trustedTSA("https://tsa.acme.example/api/v1/timestamp", s.tsa)}
	all, err := trustedRoot(cas, tsas, ct, logs)
	if err != nil {
		return fmt.Errorf("make the trusted root: %w", err)
	}
	github, err := trustedRoot([]root.CertificateAuthority{trustedCA("https://fulcio.githubapp.com", s.caGitHub)},
		[]root.TimestampingAuthority{trustedTSA("https://timestamp.githubapp.com", s.tsaGitHub)}, nil, nil)
	if err != nil {
		return fmt.Errorf("make GitHub's trusted root: %w", err)
	}
	return s.write(map[string][]byte{"trusted_root.json": all, "trusted_root_github.json": github})
}

func (s *Stack) trustedLogs() (map[string]*root.TransparencyLog, error) {
	id, err := hex.DecodeString(s.rekorV1.id)
	if err != nil {
		return nil, err
	}
	// Rekor v2 goes by the key's identifier in its checkpoints.
	_, id2, err := note.KeyHash(rekorV2Origin, s.rekorV2)
	if err != nil {
		return nil, err
	}
	return map[string]*root.TransparencyLog{
		s.rekorV1.id:            trustedLog("https://rekor1.acme.example", id, &s.rekorV1.key.PublicKey),
		hex.EncodeToString(id2): trustedLog("https://"+rekorV2Origin, id2, s.rekorV2),
	}, nil
}

func trustedRoot(
	cas []root.CertificateAuthority,
	tsas []root.TimestampingAuthority,
	ct, logs map[string]*root.TransparencyLog,
) ([]byte, error) {
	r, err := root.NewTrustedRoot(root.TrustedRootMediaType01, cas, ct, tsas, logs)
	if err != nil {
		return nil, err
	}
	return r.MarshalJSON()
}

func trustedCA(url string, a *Authority) *root.FulcioCertificateAuthority {
	return &root.FulcioCertificateAuthority{
		Root:                a.Root,
		Intermediates:       []*x509.Certificate{a.Intermediate},
		ValidityPeriodStart: a.Root.NotBefore,
		URI:                 url,
	}
}

func trustedTSA(url string, t *timestamper) *root.SigstoreTimestampingAuthority {
	return &root.SigstoreTimestampingAuthority{
		Root:                t.Root,
		Intermediates:       []*x509.Certificate{t.Intermediate},
		Leaf:                t.leaf,
		ValidityPeriodStart: t.Root.NotBefore,
		URI:                 url,
	}
}

func trustedLog(url string, id []byte, key crypto.PublicKey) *root.TransparencyLog {
	return &root.TransparencyLog{
		BaseURL:             url,
		ID:                  id,
		HashFunc:            crypto.SHA256,
		PublicKey:           key,
		ValidityPeriodStart: start().Truncate(24 * time.Hour),
	}
}
