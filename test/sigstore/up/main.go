// Up starts the Sigstore of test/sigstore and keeps it until it is interrupted,
// for trying things by hand.
//
//	go run ./test/sigstore/up [EMAIL]
//
// It prints what a shell needs to sign and verify with it, with an identity
// token for EMAIL, dev@acme.example by default.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/pullgate/pullgate/test/sigstore"
)

func main() {
	email := "dev@acme.example"
	if len(os.Args) > 1 {
		email = os.Args[1]
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, email); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, email string) (err error) {
	dir, err := os.MkdirTemp("", "sigstore-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := sigstore.Start(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	token, err := s.Email(email)
	if err != nil {
		return err
	}
	config, err := s.SigningConfig(sigstore.Services{Fulcio: s.Fulcio, Rekor: s.RekorV2, TSA: s.TSA})
	if err != nil {
		return err
	}
	fmt.Printf(`# cosign sign --signing-config "$SIGNING_CONFIG" --identity-token "$TOKEN" IMAGE
# cosign verify --trusted-root "$TRUSTED_ROOT" --use-signed-timestamps \
#   --certificate-oidc-issuer %[1]s --certificate-identity %[2]s IMAGE
SIGNING_CONFIG=%[3]s
TRUSTED_ROOT=%[4]s
TRUSTED_ROOT_GITHUB=%[5]s
FULCIO=%[6]s
REKOR_V1=%[7]s
REKOR_V2=%[8]s
TSA=%[9]s
TOKEN=%[10]s
`, sigstore.Accounts, email, config, s.Root, s.RootGitHub, s.Fulcio, s.RekorV1, s.RekorV2, s.TSA, token)
	<-ctx.Done()
	return nil
}
