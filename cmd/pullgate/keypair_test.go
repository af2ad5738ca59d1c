package main

import (
	"crypto/ecdsa"
	"encoding/pem"
	"path/filepath"
	"strings"
	"testing"
)

func TestKeyPairOpensWithItsPasswordOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	private, public, err := generateKeyPair([]byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	file := writeIn(t, dir, "a.key", string(private))
	with := func(password string) func() ([]byte, error) {
		return func() ([]byte, error) { return []byte(password), nil }
	}
	key, err := readPrivateKey(file, with("secret"))
	if err != nil {
		t.Fatal(err)
	}
	written, err := publicPEM(key.(*ecdsa.PrivateKey).Public())
	if err != nil || string(written) != string(public) {
		t.Errorf("the two halves do not belong together: %v", err)
	}
	damaged, _ := pem.Decode(private)
	damaged.Bytes[len(damaged.Bytes)/2] ^= 1
	for name, row := range map[string]struct{ text, password, want string }{
		"wrong password": {string(private), "other", "password does not open"},
		"no password":    {string(private), "", "password does not open"},
		"damaged":        {string(pem.EncodeToMemory(damaged)), "secret", "password does not open"},
		"public key":     {string(public), "secret", "is a public key"},
		"plain key":      {strings.ReplaceAll(string(private), "ENCRYPTED SIGSTORE ", ""), "secret", "import-key-pair"},
		"two keys":       {string(private) + string(private), "secret", "more than one"},
		"no PEM":         {"secret", "secret", "is no key in PEM"},
		"empty":          {"", "secret", "is no key in PEM"},
	} {
		if _, err := readPrivateKey(
			writeIn(t, dir, "b.key", row.text),
			with(row.password),
		); err == nil ||
			!strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v; want %q", name, err, row.want)
		}
	}
	if _, err := readPrivateKey(filepath.Join(dir, "none.key"), with("secret")); err == nil {
		t.Error("a missing file was read")
	}
	if err := writeNew(file, nil, 0o600); err == nil || !strings.Contains(err.Error(), "not written over") {
		t.Errorf("a key was written over: %v", err)
	}
}
