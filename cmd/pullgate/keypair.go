package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/pullgate/pullgate/cmd/pullgate/exit"
)

// PEM types of a private key under a password, as cosign 2 and 3 write it, and
// as cosign 1 did.
const (
	pemPrivateKey    = "ENCRYPTED SIGSTORE PRIVATE KEY"
	pemPrivateKeyOld = "ENCRYPTED COSIGN PRIVATE KEY"
	maxPrivateKey    = 64 << 10 // bytes of a key file
)

func generateKeyPairCommand() *cobra.Command {
	var prefix string
	cmd := &cobra.Command{
		Use:   "generate-key-pair [--output PREFIX]",
		Short: "Make a key to sign images with",
		Long: `generate-key-pair writes PREFIX.key, the private key under a password, and
PREFIX.pub, the public key. Keep the private key where images are built and give
the public key to whoever runs the gate (authorities: [{key: PREFIX.pub}]).

The password is taken from COSIGN_PASSWORD, or asked for. The files are the ones
cosign makes: each program reads the other's.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			password, err := newPassword(cmd.ErrOrStderr())
			if err != nil {
				return exit.With(exit.Denied, err)
			}
			private, public, err := generateKeyPair(password)
			if err != nil {
				return err
			}
			if err := writeNew(prefix+".key", private, 0o600); err != nil {
				return exit.With(exit.Denied, err)
			}
			if err := writeNew(prefix+".pub", public, 0o644); err != nil {
				return exit.With(exit.Denied, errors.Join(err, os.Remove(prefix+".key")))
			}
			_, err = fmt.Fprintf(
				cmd.OutOrStdout(),
				"private key: %s.key (keep it secret)\npublic key:  %s.pub (give it to the gate)\n",
				prefix,
				prefix,
			)
			return err
		},
	}
	cmd.Flags().StringVarP(&prefix, "output", "o", "cosign", "where to write: `PREFIX`.key and PREFIX.pub")
	return cmd
}

// writeNew never writes over a key that somebody may still need.
func writeNew(name string, content []byte, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf(
			"%s is there already, and a key is not written over: move it away, or choose another --output",
			name,
		)
	}
	if err != nil {
		return fmt.Errorf("write key: %w: choose another --output, in a folder you may write to", err)
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

func generateKeyPair(password []byte) (private, public []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("write the private key: %w", err)
	}
	sealed, err := encrypted.Encrypt(der, password)
	if err != nil {
		return nil, nil, fmt.Errorf("encrypt the private key: %w", err)
	}
	if public, err = publicPEM(key.Public()); err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPrivateKey, Bytes: sealed}), public, nil
}

func publicPEM(key crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("write the public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// readPrivateKey opens a key that generate-key-pair, or cosign, has written.
func readPrivateKey(name string, askPassword func() ([]byte, error)) (crypto.PrivateKey, error) {
	f, err := os.Open(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf(
			"read key: %w: name the private key with --key, or make one with `pullgate generate-key-pair`",
			err,
		)
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("read key: %w: sign as who may read it", err)
	case err != nil:
		return nil, fmt.Errorf("read key: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, fmt.Errorf("read key: %s is a folder: name the file in it", name)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxPrivateKey))
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", name, err)
	}
	block, rest := pem.Decode(text)
	switch {
	case block == nil:
		return nil, fmt.Errorf("%s is no key in PEM: make one with `pullgate generate-key-pair`", name)
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, fmt.Errorf("%s holds more than one key", name)
	case block.Type == "PUBLIC KEY":
		return nil, fmt.Errorf("%s is a public key; signing needs the private one, which ends in .key", name)
	case block.Type != pemPrivateKey && block.Type != pemPrivateKeyOld:
		return nil, fmt.Errorf(
			"%s is a PEM %q; signing needs an %q: bring a key of another kind in with `cosign import-key-pair`",
			name,
			block.Type,
			pemPrivateKey,
		)
	}
	password, err := askPassword()
	if err != nil {
		return nil, err
	}
	der, err := encrypted.Decrypt(block.Bytes, password)
	if err != nil {
		return nil, fmt.Errorf("the password does not open %s: set COSIGN_PASSWORD to the right one", name)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%s holds no private key that can be used: %w", name, err)
	}
	return key, nil
}

const passwordVariable = "COSIGN_PASSWORD"

// oldPassword is the environment's, or what is typed.
func oldPassword(stderr io.Writer) func() ([]byte, error) {
	return func() ([]byte, error) {
		if p, ok := os.LookupEnv(passwordVariable); ok {
			return []byte(p), nil
		}
		return prompt(stderr, "Password for the private key: ")
	}
}

// newPassword asks twice: a mistyped password loses the key.
func newPassword(stderr io.Writer) ([]byte, error) {
	if p, ok := os.LookupEnv(passwordVariable); ok {
		return []byte(p), nil
	}
	first, err := prompt(stderr, "Password for the new private key: ")
	if err != nil {
		return nil, err
	}
	second, err := prompt(stderr, "Again: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		return nil, errors.New("the two passwords differ; nothing was written")
	}
	return first, nil
}

func prompt(stderr io.Writer, text string) ([]byte, error) {
	stdin := int(os.Stdin.Fd())
	if !term.IsTerminal(stdin) {
		return nil, fmt.Errorf("there is no terminal to ask for the password: set %s", passwordVariable)
	}
	fmt.Fprint(stderr, text)
	password, err := term.ReadPassword(stdin)
	fmt.Fprintln(stderr)
	if err != nil {
		return nil, fmt.Errorf("read password: %w", err)
	}
	return password, nil
}
