package trust

import (
	"context"
	"crypto"
	"encoding/pem"
	"fmt"
	"strings"

	"crypto/x509"

	"github.com/sigstore/sigstore/pkg/signature/kms"

	// Each registers a key service. They are allow-listed again below: for any
	// other scheme the loader would run a program of that name.
	_ "github.com/sigstore/sigstore/pkg/signature/kms/aws"
	_ "github.com/sigstore/sigstore/pkg/signature/kms/azure"
	_ "github.com/sigstore/sigstore/pkg/signature/kms/gcp"
	_ "github.com/sigstore/sigstore/pkg/signature/kms/hashivault"
)

// schemes are the key services that may be asked.
func schemes() []string {
	return []string{"awskms://", "azurekms://", "gcpkms://", "hashivault://"}
}

// fetchKey asks a key service for a public key, as PEM. Signatures are verified
// with it here: the service is not asked about any of them.
func fetchKey(ctx context.Context, reference string) ([]byte, error) {
	known := false
	for _, s := range schemes() {
		known = known || strings.HasPrefix(reference, s)
	}
	if !known {
		return nil, fmt.Errorf("key %s: no key service of that name is known", reference)
	}
	service, err := kms.Get(ctx, reference, crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", reference, err)
	}
	public, err := service.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", reference, err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", reference, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}
