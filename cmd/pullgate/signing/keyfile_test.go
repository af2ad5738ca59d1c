package signing

import (
	"crypto/ecdsa"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func password(text string) func() ([]byte, error) {
	return func() ([]byte, error) { return []byte(text), nil }
}

// TestKeyPair: the two halves belong together, and the private one opens with its
// password.
func TestKeyPair(t *testing.T) {
	t.Parallel()
	prefix := filepath.Join(t.TempDir(), "a")
	private, public, err := GenerateKeyPair([]byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteKeyPair(prefix, private, public); err != nil {
		t.Fatal(err)
	}

	key, err := ReadPrivateKey(prefix+".key", password("secret"))
	if err != nil {
		t.Fatal(err)
	}
	written, err := publicPEM(key.(*ecdsa.PrivateKey).Public())
	if err != nil || string(written) != string(public) {
		t.Errorf("the two halves do not belong together: %v", err)
	}
	if info, err := os.Stat(prefix + ".key"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the private key's file: %v, %v", info, err)
	}
}

// TestWrittenOver: a key is never written over, and no half is left alone.
func TestWrittenOver(t *testing.T) {
	t.Parallel()
	for _, half := range []string{".key", ".pub"} {
		t.Run(half, func(t *testing.T) {
			prefix := filepath.Join(t.TempDir(), "a")
			if err := os.WriteFile(prefix+half, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			err := WriteKeyPair(prefix, []byte("new"), []byte("new"))
			if err == nil || !strings.Contains(err.Error(), "not written over") {
				t.Errorf("a key was written over: %v", err)
			}
			if text, err := os.ReadFile(prefix + half); err != nil || string(text) != "old" {
				t.Errorf("%q, %v", text, err)
			}
			if files, err := filepath.Glob(prefix + "*"); err != nil || len(files) != 1 {
				t.Errorf("%v, %v", files, err)
			}
		})
	}
}

// TestUnusableKey: what is no key of ours, or does not open, is refused with its
// reason.
func TestUnusableKey(t *testing.T) {
	t.Parallel()
	private, public, err := GenerateKeyPair([]byte("secret"))
	if err != nil {
		t.Fatal(err)
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
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "b.key")
			if err := os.WriteFile(file, []byte(row.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := ReadPrivateKey(file, password(row.password))
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("%v; want %q", err, row.want)
			}
		})
	}
	t.Run("missing", func(t *testing.T) {
		if _, err := ReadPrivateKey(filepath.Join(t.TempDir(), "none.key"), password("secret")); err == nil {
			t.Error("a missing file was read")
		}
	})
}
