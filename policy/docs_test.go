package policy_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/policy"
)

var fence = regexp.MustCompile("(?s)\n```yaml\n(.*?)\n```\n")

// TestManual loads each example of docs/policies.md, and tries each expression on
// a document of its kind that it should hold of, and on one that it should not.
// They lie in testdata/predicates, by attestation.
func TestManual(t *testing.T) {
	t.Parallel()
	manual, err := os.ReadFile("../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}

	dir := exampleFiles(t)
	examples := fence.FindAllSubmatch(manual, -1)
	if len(examples) < 12 {
		t.Fatalf("%d examples", len(examples))
	}

	tried := map[string]bool{}
	for _, example := range examples {
		var doc struct {
			Policies   yaml.Node `yaml:"policies"`
			TrustRoots yaml.Node `yaml:"trustRoots"`
		}
		if err := yaml.Unmarshal(example[1], &doc); err != nil {
			t.Errorf("%v in\n%s", err, example[1])
			continue
		}

		in := policy.Input{ConfigFile: "manual", Dir: dir, Inline: &doc.Policies}
		if !doc.TrustRoots.IsZero() {
			in.TrustRoots = &doc.TrustRoots
		}
		set, problems := policy.Load(in)
		if len(problems) > 0 || len(set.Policies()) == 0 {
			t.Errorf("%v in\n%s", problems, example[1])
			continue
		}

		for _, p := range set.Policies() {
			for _, a := range p.Attestations {
				tried[a.Name] = true
				tryExpression(t, a)
			}
		}
	}

	for _, name := range []string{"slsaprovenance02", "slsaprovenance1", "spdxjson", "cyclonedx", "vuln"} {
		if !tried[name] {
			t.Errorf("no example for %s", name)
		}
	}
}

func tryExpression(t *testing.T, a policy.Attestation) {
	t.Helper()
	statement := func(predicate any) policy.Statement {
		return policy.Statement{
			Predicate:     predicate,
			PredicateType: a.Type,
			Subject:       []any{},
			Image:         "registry.acme.example/app",
			Digest:        "sha256:" + strings.Repeat("0", 64),
		}
	}

	read := func(name string) any {
		text, err := os.ReadFile(filepath.Join("testdata", "predicates", name))
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal(text, &v); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return v
	}

	if err := a.CEL.Holds(t.Context(), statement(read(a.Name+".json"))); err != nil {
		t.Errorf("%s: %v", a.Name, err)
	}

	for name, predicate := range map[string]any{
		"another document": read(a.Name + ".other.json"),
		"an empty one":     map[string]any{},
		"none":             nil,
		"text":             "x",
	} {
		if a.CEL.Holds(t.Context(), statement(predicate)) == nil {
			t.Errorf("%s: true of %s", a.Name, name)
		}
	}
}

// exampleFiles is a folder with the files that the examples name.
func exampleFiles(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte, err error) {
		t.Helper()
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}

	for _, name := range []string{
		"cosign.pub",
		"release-2026.pub",
		"release-2027.pub",
		"partner.pub",
		"roots.pem",
		"intermediates.pem",
	} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, ".pub") {
			der, err := x509.MarshalPKIXPublicKey(key.Public())
			write(name, "PUBLIC KEY", der, err)
			continue
		}

		c := &x509.Certificate{
			SerialNumber:          big.NewInt(1),
			Subject:               pkix.Name{CommonName: name},
			IsCA:                  true,
			BasicConstraintsValid: true,
			NotAfter:              time.Now().Add(time.Hour),
		}
		der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
		write(name, "CERTIFICATE", der, err)
	}

	for _, name := range []string{"trusted_root.json", "root.json"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	return dir
}
