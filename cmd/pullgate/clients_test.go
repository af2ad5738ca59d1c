package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/pullgate/pullgate/cmd/pullgate/decisions"
	"github.com/pullgate/pullgate/cmd/pullgate/exit"
	"github.com/pullgate/pullgate/test/rig"
)

// perClient is a configuration whose policies tell clients apart, beside its
// registry with the demo's images.
func perClient(t *testing.T) (dir, config string) {
	t.Helper()
	addr, _ := rig.Registry(t)
	dir = t.TempDir()
	hash, err := bcrypt.GenerateFromPassword([]byte("x"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	rig.Write(t, dir, "users", "ci:"+string(hash)+"\n")
	config = rig.Write(t, dir, "pullgate.yaml", `upstreams: [{host: demo.example, url: "http://`+addr+`"}]
clients: {auth: [basic], htpasswdFile: users}
policies:
  - {name: for-ci, images: ["demo.example/**"], clients: ["user:ci", "10.0.0.0/8"], static: allow}
  - {name: others, images: ["demo.example/**"], static: deny}
`)
	return dir, config
}

// TestClientsInCommands: verify, test and replay decide for the client that asks.
func TestClientsInCommands(t *testing.T) {
	t.Parallel()
	dir, config := perClient(t)
	command := func(want int, args ...string) string {
		t.Helper()
		code, out := commandExit(t, append(args, "--config", config)...)
		if code != want {
			t.Fatalf("%v: exit %d, want %d\n%s", args, code, want, out)
		}
		return out
	}

	t.Run("verify", func(t *testing.T) {
		const image = "demo.example/unsigned:latest"
		for client, want := range map[string]int{
			"":          exit.Denied,
			"user:ci":   0,
			"user:ci2":  exit.Denied,
			"10.1.2.3":  0,
			"192.0.2.1": exit.Denied,
			"ci":        exit.CouldNotTell,
		} {
			command(want, "verify", image, "--client", client)
		}
	})

	t.Run("test", func(t *testing.T) {
		file := func(cases string) string { return rig.Write(t, t.TempDir(), "cases.yaml", "cases:\n"+cases) }
		good := file(`  - {image: "demo.example/unsigned:latest", client: "user:ci", policy: for-ci, outcome: allowed}
  - {image: "demo.example/unsigned:latest", client: 10.9.9.9, policy: for-ci, outcome: allowed}
  - {image: "demo.example/unsigned:latest", client: "cn:ci", policy: others, outcome: denied}
  - {image: "demo.example/unsigned:latest", policy: others, outcome: denied}
`)
		if out := command(0, "test", good); !strings.Contains(out, "4 cases, 4 as expected") {
			t.Errorf("test says %q", out)
		}
		bad := file(`  - {image: "demo.example/unsigned:latest", client: ci, outcome: allowed}` + "\n")
		if out := command(
			exit.CouldNotTell,
			"test",
			bad,
		); !strings.Contains(
			out,
			`cases.yaml:2: client: "ci" is no client`,
		) {
			t.Errorf("test says %q", out)
		}
	})

	t.Run("replay", func(t *testing.T) {
		text := ""
		for n, r := range []struct{ name, addr, outcome string }{
			{"user:ci", "192.0.2.1", "allowed"},
			{"user:ci", "192.0.2.2", "allowed"},
			{"", "10.0.0.7", "allowed"},
			{"", "192.0.2.3", "allowed"}, // would be refused
			{"user:other", "192.0.2.4", "denied"},
		} {
			text += recordLine(t, n, func(d *decisions.Record) {
				d.Client, d.ClientName, d.Outcome = r.addr, r.name, r.outcome
			})
		}
		c := replayJSON(t, exit.Denied, "--config", config, "--decisions", rig.Write(t, dir, "d.jsonl", text))
		if c.Images != 2 || c.Same != 1 || len(c.Refused) != 1 || !strings.Contains(c.Refused[0].Client, "192.0.2.") ||
			c.Refused[0].Clients != 2 {
			t.Errorf("%+v", c)
		}
	})
}

// TestCheckClients: check warns of certificates that end, and names weak hashes.
func TestCheckClients(t *testing.T) {
	t.Parallel()
	_, config := perClient(t)
	code, out := commandExit(t, "check", "--strict", "--config", config)
	if code != exit.Denied ||
		!strings.Contains(out, `:2: clients.htpasswdFile: the hash of user "ci" costs too little`) {
		t.Errorf("exit %d: %s", code, out)
	}
	if code, out := commandExit(t, "check", "--config", config); code != 0 || strings.Contains(out, "costs") {
		t.Errorf("exit %d: %s", code, out)
	}

	for days, want := range map[int]string{400: "", 20: "will end on", -1: "has ended on"} {
		dir := t.TempDir()
		certificate, key := selfSigned(t, days)
		rig.Write(t, dir, "gate.crt", certificate)
		rig.Write(t, dir, "gate.key", key)
		file := rig.Write(t, dir, "pullgate.yaml", `upstreams: [{host: demo.example}]
clients: {auth: [mtls]}
tls: {certFile: gate.crt, keyFile: gate.key, clientCAFile: gate.crt}
policies: [{name: x, images: ["demo.example/**"], static: deny}]
`)
		code, out := commandExit(t, "check", "--config", file)
		for _, at := range []string{"tls.certFile", "tls.clientCAFile"} {
			says := fmt.Sprintf(
				"%s:3: %s: the certificate %q %s",
				filepath.Join(dir, "pullgate.yaml"),
				at,
				"CN=gate",
				want,
			)
			if code != 0 || strings.Contains(out, says) != (want != "") {
				t.Errorf("%d days: exit %d: %s", days, code, out)
			}
		}
	}
}

// selfSigned makes a certificate authority's certificate that ends in some days,
// and its key.
func selfSigned(t *testing.T, days int) (certificate, key string) {
	t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "gate"},
		NotBefore:             time.Now().AddDate(0, 0, days-100),
		NotAfter:              time.Now().AddDate(0, 0, days),
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, own.Public(), own)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}
