package main

import (
	"fmt"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/spf13/cobra"

	"github.com/pullgate/pullgate/cmd/pullgate/signing"
	"github.com/pullgate/pullgate/cmd/pullgate/version"
)

func signCommand() *cobra.Command {
	var keyFile, format string
	p := &signing.Pusher{Options: []remote.Option{
		remote.WithAuthFromKeychain(authn.DefaultKeychain),
		remote.WithUserAgent("pullgate/" + version.String()),
	}}
	cmd := &cobra.Command{
		Use:   "sign --key FILE IMAGE…",
		Short: "Sign images with a key",
		Long: `sign resolves each image once, signs its digest and pushes the signature beside it.
It needs the right to push to the repository; credentials are those of Docker's
configuration (docker login). The key's password is taken from COSIGN_PASSWORD,
or asked for.

A signature of a multi-platform image is enough for its platforms, as the gate
sees it (children: index); --recursive signs each of them as well.

Signatures are the ones cosign makes: a Sigstore bundle as cosign 3, or with
--format legacy the older kind that cosign 1 and 2 write.`,
		Example: "  pullgate sign --key cosign.key ghcr.io/acme/app:v1\n" +
			"  pullgate sign --key cosign.key -a env=prod ghcr.io/acme/app@sha256:…",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeImages,
		RunE: func(cmd *cobra.Command, images []string) (err error) {
			if p.Format, err = signing.ParseFormat(format); err != nil {
				return err
			}
			key, err := signing.ReadPrivateKey(keyFile, signing.AskPassword(cmd.Context(), cmd.ErrOrStderr()))
			if err != nil {
				return err
			}
			if p.Signer, err = signing.NewKeySigner(key); err != nil {
				return err
			}

			for _, image := range images {
				image, err := pastGate(cmd, image)
				if err != nil {
					return err
				}
				signed, err := p.SignImage(cmd.Context(), image)
				for _, d := range signed {
					fmt.Fprintf(cmd.OutOrStdout(), "signed %s (%s)\n", d, p.Format)
				}
				if err != nil {
					return fmt.Errorf("sign %s: %w", image, err)
				}
			}
			return nil
		},
	}

	f := cmd.Flags()
	f.StringVar(&keyFile, "key", "cosign.key", "the private key `FILE`")
	f.StringVar(&format, "format", string(signing.Bundle), "bundle | legacy")
	completeFlag(cmd, "format", string(signing.Bundle), string(signing.Legacy))
	f.BoolVarP(&p.Recursive, "recursive", "r", false, "sign each platform of a multi-platform image too")
	f.StringToStringVarP(&p.Annotations, "annotation", "a", nil,
		"sign `KEY=VALUE` along with the digest; may be repeated")
	return cmd
}
