package demo

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"
)

const publicKeyFile = "demo.pub"

// newKey makes the key that signs, and writes its public half into dir.
func newKey(dir string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}

	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("write the key: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	return key, os.WriteFile(filepath.Join(dir, publicKeyFile), text, 0o600)
}

// writeConfig writes the gate's configuration into dir.
func writeConfig(dir, upstream, gate, admin string) (string, error) {
	text, err := yaml.Marshal(map[string]any{
		"listen":    gate,
		"admin":     map[string]any{"listen": admin},
		"drain":     "1s",
		"upstreams": []any{map[string]any{"host": "demo.example", "url": "http://" + upstream}},
		"policies": []any{map[string]any{
			"name":        "demo",
			"images":      []string{"demo.example/**"},
			"authorities": []any{map[string]any{"name": "demo-key", "key": publicKeyFile}},
		}},
	})
	if err != nil {
		return "", fmt.Errorf("write the demo's configuration: %w", err)
	}

	file := filepath.Join(dir, "pullgate.yaml")
	return file, os.WriteFile(file, text, 0o600)
}
