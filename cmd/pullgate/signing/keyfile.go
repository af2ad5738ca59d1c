package signing

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
)

// PEM types of a private key under a password, as cosign 2 and 3 write it, and
// as cosign 1 did.
const (
	pemPrivateKey    = "ENCRYPTED SIGSTORE PRIVATE KEY"
	pemPrivateKeyOld = "ENCRYPTED COSIGN PRIVATE KEY"
	pemPublicKey     = "PUBLIC KEY"
)

const maxPrivateKey = 64 << 10 // bytes of a key file

// GenerateKeyPair makes a key on the curve P-256 and returns both halves in PEM, the
// private one under a password.
func GenerateKeyPair(password []byte) (private, public []byte, err error) {
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
	return pem.EncodeToMemory(&pem.Block{Type: pemPublicKey, Bytes: der}), nil
}

// WriteKeyPair writes PREFIX.key and PREFIX.pub: both, or neither. It never writes
// over a key that may still be needed.
func WriteKeyPair(prefix string, private, public []byte) error {
	if err := writeNew(prefix+".key", private, 0o600); err != nil {
		return err
	}
	if err := writeNew(prefix+".pub", public, 0o644); err != nil {
		return errors.Join(err, os.Remove(prefix+".key"))
	}
	return nil
}

func writeNew(name string, content []byte, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	switch {
	case errors.Is(err, os.ErrExist):
		const message = "%s is there already, and a key is not written over: move it away, or choose another --output"
		return fmt.Errorf(message, name)
	case err != nil:
		return fmt.Errorf("write key: %w: choose another --output, in a folder you may write to", err)
	}

	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

// ReadPrivateKey opens a key that GenerateKeyPair, or cosign, has made. It asks for
// the password only once it has found a key in the file.
func ReadPrivateKey(name string, askPassword func() ([]byte, error)) (crypto.PrivateKey, error) {
	text, err := readKeyFile(name)
	if err != nil {
		return nil, err
	}
	sealed, err := decodePrivateKey(name, text)
	if err != nil {
		return nil, err
	}

	password, err := askPassword()
	if err != nil {
		return nil, err
	}
	der, err := encrypted.Decrypt(sealed, password)
	if err != nil {
		return nil, fmt.Errorf("the password does not open %s: set %s to the right one", name, passwordVariable)
	}

	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%s holds no private key that can be used: %w", name, err)
	}
	return key, nil
}

func readKeyFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		const message = "read key: %w: name the private key with --key, or make one with `pullgate generate-key-pair`"
		return nil, fmt.Errorf(message, err)
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
	return text, nil
}

// decodePrivateKey returns the private key in text, still under its password.
func decodePrivateKey(name string, text []byte) (sealed []byte, err error) {
	block, rest := pem.Decode(text)
	switch {
	case block == nil:
		return nil, fmt.Errorf("%s is no key in PEM: make one with `pullgate generate-key-pair`", name)
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, fmt.Errorf("%s holds more than one key", name)
	case block.Type == pemPublicKey:
		return nil, fmt.Errorf("%s is a public key; signing needs the private one, which ends in .key", name)
	case block.Type != pemPrivateKey && block.Type != pemPrivateKeyOld:
		const message = "%s is a PEM %q; signing needs an %q: bring a key of another kind in with " +
			"`cosign import-key-pair`"
		return nil, fmt.Errorf(message, name, block.Type, pemPrivateKey)
	}
	return block.Bytes, nil
}
