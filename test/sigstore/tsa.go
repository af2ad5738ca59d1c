package sigstore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/asn1"
	"io"
	"net/http"
	"time"

	"github.com/digitorus/timestamp"
)

// timestamper answers RFC 3161 requests. It stands for an authority beside the
// stack's own: GitHub's, or one that nobody trusts.
type timestamper struct {
	*Authority
	leaf *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newTimestamper(organization string) (*timestamper, error) {
	a, err := NewAuthority(organization, x509.ExtKeyUsageTimeStamping)
	if err != nil {
		return nil, err
	}
	t := &timestamper{Authority: a}
	t.leaf, t.key, err = a.Issue(organization+" Timestamping", "", 0)
	return t, err
}

// chain is what timestamp-server wants: the signer first, the root last.
func (t *timestamper) chain() []byte { return Chain(t.leaf, t.Intermediate, t.Root) }

func (t *timestamper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<16))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	req, err := timestamp.ParseRequest(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ts := timestamp.Timestamp{
		HashAlgorithm:     req.HashAlgorithm,
		HashedMessage:     req.HashedMessage,
		Nonce:             req.Nonce,
		Time:              time.Now().UTC(),
		Policy:            asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 2},
		Accuracy:          time.Second,
		AddTSACertificate: req.Certificates,
	}
	resp, err := ts.CreateResponseWithOpts(t.leaf, t.key, crypto.SHA256)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/timestamp-reply")
	_, _ = w.Write(resp) // a client that has gone needs no answer
}
