package trust

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	"github.com/sigstore/sigstore/pkg/signature/kms"
	"github.com/sigstore/sigstore/pkg/signature/options"

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
// with it here: the service learns of none of them.
func fetchKey(ctx context.Context, reference string) ([]byte, error) {
	known := func(scheme string) bool { return strings.HasPrefix(reference, scheme) }
	if !slices.ContainsFunc(schemes(), known) {
		return nil, fmt.Errorf("key %s: no key service of that name is known", reference)
	}

	public, err := publicKey(ctx, reference)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", reference, err)
	}

	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", reference, err)
	}

	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// publicKey asks the service, until ctx ends: some of the services' clients look
// at no context. One that never answers leaves its goroutine behind.
func publicKey(ctx context.Context, reference string) (crypto.PublicKey, error) {
	type answer struct {
		key crypto.PublicKey
		err error
	}
	answers := make(chan answer, 1)

	go func() {
		var a answer
		defer func() {
			if p := recover(); p != nil {
				a.err = fmt.Errorf("its client: %v", p)
			}
			answers <- a
		}()

		service, err := kms.Get(ctx, reference, crypto.SHA256)
		if err != nil {
			a.err = err
			return
		}
		a.key, a.err = service.PublicKey(options.WithContext(ctx))
	}()

	select {
	case a := <-answers:
		return a.key, a.err
	case <-ctx.Done():
		return nil, fmt.Errorf("it has not answered: %w", ctx.Err())
	}
}
