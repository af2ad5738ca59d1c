package e2e

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// importKey makes a key of another type into a cosign key pair.
func importKey(t *testing.T, kind string) (private, public string) {
	t.Helper()
	need(t, "cosign")
	var key any
	var err error
	switch kind {
	case "ecdsa-p256":
		return keyPair(t)
	case "ecdsa-p384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "rsa-2048":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	plain := writeFile(t, filepath.Join(dir, "plain.pem"), string(pem.EncodeToMemory(&pem.Block{
		Type:  "PRIVATE KEY",
		Bytes: der,
	})))
	mustRun(t, "cosign", "import-key-pair", "--key", plain, "--output-key-prefix", filepath.Join(dir, "imported"))
	return filepath.Join(dir, "imported.key"), filepath.Join(dir, "imported.pub")
}

// TestInterchange signs with pullgate and verifies with real cosign, and the
// other way round, on a registry with the referrers API and on one without.
func TestInterchange(t *testing.T) {
	need(t, "cosign", "cosign-v2")
	for _, name := range []string{"olareg", "distribution"} {
		registry := registries[name](t)
		for _, kind := range []string{"ecdsa-p256", "ecdsa-p384", "rsa-2048", "ed25519"} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				private, public := importKey(t, kind)
				for _, format := range []string{"bundle", "legacy"} {
					for _, recursive := range []bool{false, true} {
						for _, annotated := range []bool{false, true} {
							ours(t, registry, kind, format, private, public, recursive, annotated)
						}
					}
				}
				for way, sign := range signers {
					ref := fmt.Sprintf("%s/theirs/%s-%s", registry, kind, strings.ReplaceAll(way, " ", "-"))
					d := pushIndex(t, ref+":v1", 100)
					sign(t, private, ref+"@"+d)
					mustRun(t, binary(t), "verify", "--key", public, "--plain-http", ref+"@"+d)
				}
			})
		}
	}
}

// ours signs with pullgate, and verifies with whatever understands the format.
func ours(t *testing.T, registry, kind, format, private, public string, recursive, annotated bool) {
	t.Helper()
	repo := fmt.Sprintf("ours/%s-%s-%v-%v", kind, format, recursive, annotated)
	index := pushIndex(t, registry+"/"+repo+":v1", 100)
	flags := []string{"sign", "--key", private, "--format", format, fmt.Sprintf("--recursive=%v", recursive)}
	if annotated {
		flags = append(flags, "-a", "env=prod")
	}
	mustRun(t, binary(t), append(flags, registry+"/"+repo+":v1")...)
	tools := []string{"cosign"}
	if format == "legacy" {
		tools = append(tools, "cosign-v2")
	}
	for _, d := range append([]string{index}, childrenOf(t, registry, repo, index)...) {
		ref, signed := registry+"/"+repo+"@"+d, d == index || recursive
		for _, tool := range tools {
			for annotation, want := range map[string]bool{
				"":         signed,
				"env=prod": signed && annotated,
				"env=test": false,
			} {
				args := []string{"verify", "--key", public, "--insecure-ignore-tlog=true"}
				if annotation != "" {
					args = append(args, "-a", annotation)
				}
				if out, err := run(t, tool, append(args, ref)...); (err == nil) != want {
					t.Errorf(
						"%s %s, annotation %q: verified %v, want %v\n%s",
						tool,
						ref,
						annotation,
						err == nil,
						want,
						tail(out, 600),
					)
				}
			}
		}
		if out, err := run(t, binary(t), "verify", "--key", public, "--plain-http", ref); (err == nil) != signed {
			t.Errorf("pullgate verify %s: %v, want %v\n%s", ref, err == nil, signed, out)
		}
	}
}

// TestQuickStart goes from nothing to a refused pull with pullgate alone.
func TestQuickStart(t *testing.T) {
	registry := startGGCR(t)
	dir := t.TempDir()
	pair := filepath.Join(dir, "team")
	mustRunEnv(t, "a password", binary(t), "generate-key-pair", "--output", pair)
	pushIndex(t, registry+"/team/app:v1", 100)
	pushIndex(t, registry+"/team/app:unsigned", 200)
	g := startGate(t, registry, pair+".pub")
	if status, body := get(t, g, "team/app/manifests/v1"); status != http.StatusForbidden {
		t.Fatalf("before it is signed: %d %s", status, body)
	}
	mustRunEnv(t, "a password", binary(t), "sign", "--key", pair+".key", registry+"/team/app:v1")
	if out, err := runEnv(
		t,
		"another",
		binary(t),
		"sign",
		"--key",
		pair+".key",
		registry+"/team/app:unsigned",
	); err == nil ||
		!strings.Contains(out, "password does not open") {
		t.Errorf("a wrong password: %v\n%s", err, out)
	}
	if out, err := runEnv(
		t,
		"a password",
		binary(t),
		"sign",
		"--key",
		pair+".pub",
		registry+"/team/app:unsigned",
	); err == nil ||
		!strings.Contains(out, "public key") {
		t.Errorf("the public key: %v\n%s", err, out)
	}
	if out, err := runEnv(
		t,
		"a password",
		binary(t),
		"generate-key-pair",
		"--output",
		pair,
	); err == nil ||
		!strings.Contains(out, "not written over") {
		t.Errorf("a second key pair: %v\n%s", err, out)
	}
	if out, err := runEnv(
		t,
		"a password",
		binary(t),
		"sign",
		"--key",
		pair+".key",
		g.addr+"/reg.test/team/app:v1",
	); err == nil ||
		!strings.Contains(out, "is a gate; its registry is asked for reg.test/team/app:v1") {
		t.Errorf("signing by the gate's name: %v\n%s", err, out)
	}
	gateUntil(t, g, "team/app/manifests/v1", http.StatusOK) // "no signature found" is believed for 5 s
	if status, _ := get(t, g, "team/app/manifests/unsigned"); status != http.StatusForbidden {
		t.Errorf("unsigned: %d", status)
	}
	// cosign reads the pair too.
	need(t, "cosign-v2")
	d := pushIndex(t, registry+"/team/app:v2", 300)
	mustRunEnv(
		t,
		"a password",
		"cosign-v2",
		"sign",
		"--yes",
		"--tlog-upload=false",
		"--key",
		pair+".key",
		registry+"/team/app@"+d,
	)
	if status, body := get(t, g, "team/app/manifests/v2"); status != http.StatusOK {
		t.Errorf("signed by cosign with our key: %d %s", status, body)
	}
	if info, err := os.Stat(pair + ".key"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the private key's mode: %v %v", info.Mode(), err)
	}
}
