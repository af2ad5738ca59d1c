package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pullgate/pullgate/cmd/pullgate/signing"
)

func generateKeyPairCommand() *cobra.Command {
	var prefix string
	cmd := &cobra.Command{
		Use:   "generate-key-pair [--output PREFIX]",
		Short: "Make a key to sign images with",
		Long: `generate-key-pair writes PREFIX.key, the private key under a password, and
PREFIX.pub, the public key. Keep the private key where images are built and give
the public key to those who run the gate (authorities: [{key: PREFIX.pub}]).

The password is taken from COSIGN_PASSWORD, or asked for. The files are the ones
cosign makes: each program reads the other's.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			password, err := signing.AskNewPassword(cmd.Context(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			private, public, err := signing.GenerateKeyPair(password)
			if err != nil {
				return err
			}
			if err := signing.WriteKeyPair(prefix, private, public); err != nil {
				return err
			}

			const message = "private key: %[1]s.key (keep it secret)\npublic key:  %[1]s.pub (give it to the gate)\n"
			_, err = fmt.Fprintf(cmd.OutOrStdout(), message, prefix)
			return err
		},
	}
	cmd.Flags().StringVarP(&prefix, "output", "o", "cosign", "where to write: `PREFIX`.key and PREFIX.pub")
	return cmd
}
