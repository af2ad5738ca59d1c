package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pullgate/pullgate/cmd/pullgate/exit"
	"github.com/pullgate/pullgate/cmd/pullgate/telemetry"
)

func TestExampleLoads(t *testing.T) {
	l, problems := load(filepath.Join("..", "..", "config.example.yaml"), telemetry.None())
	for _, p := range problems {
		t.Error(p)
	}
	if l == nil || len(l.upstreams) != 2 || len(l.policies.Policies()) != 2 {
		t.Fatalf("loaded %+v", l)
	}
}

// The example shows the defaults: without its values nothing changes.
func TestExampleShowsTheDefaults(t *testing.T) {
	example, _ := readConfig(filepath.Join("..", "..", "config.example.yaml"), nil)
	file := writeConfig(t, "upstreams: [{host: docker.io}]\n")
	bare, problems := readConfig(file, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, row := range []struct {
		name     string
		is, want any
	}{
		{"listen", example.Listen, bare.Listen},
		{"admin", example.Admin, bare.Admin},
		{"mode", example.Mode, bare.Mode},
		{"clients", example.Clients, bare.Clients},
		{"log", example.Log, bare.Log},
		{"drain", example.Drain, bare.Drain},
		{"defaultAction", example.DefaultAction, bare.DefaultAction},
		{"verdicts", example.Verdicts, bare.Verdicts},
		{"manifests", example.Manifests, bare.Manifests},
		{"limits", example.Limits, bare.Limits},
		{"decisions", example.Decisions, bare.Decisions},
		{"state.path", example.State.Path, bare.State.Path},
		{"state.maxBytes", example.State.MaxBytes, bare.State.MaxBytes},
	} {
		if row.is != row.want {
			t.Errorf("%s: the example says %+v, the default is %+v", row.name, row.is, row.want)
		}
	}
}

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	return writeIn(t, t.TempDir(), "pullgate.yaml", text)
}

func writeIn(t *testing.T, dir, name, text string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func publicKey(t *testing.T) (*ecdsa.PrivateKey, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return key, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// Every problem is reported at once, each with its line.
func TestBadConfigurations(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		text string
		want map[int]string // line → part of the message
	}{
		"unknown key": {
			"upstream: []\nupstreams: [{host: a.example}]\n",
			map[int]string{1: `unknown key "upstream"`},
		},
		"other case": {"Listen: x\nupstreams: [{host: a.example}]\n", map[int]string{1: `spelt "listen"`}},
		"unknown nested key": {
			"upstreams:\n  - host: a.example\n    auht: {type: basic}\n",
			map[int]string{3: `unknown key "upstreams.auht"`},
		},
		"twice": {
			"mode: warn\nmode: enforce\nupstreams: [{host: a.example}]\n",
			map[int]string{2: "written twice"},
		},
		"several at once": {
			"mode: off\nlog: {level: loud}\nupstreams: [{host: a.example}]\ndefaultAction: ask\n",
			map[int]string{1: `mode is "off"`, 2: `log.level`, 4: `defaultAction`},
		},
		"a word for a number": {
			"upstreams: [{host: a.example}]\nlimits:\n  descriptors: many\n",
			map[int]string{3: "descriptors"},
		},
		"a word for a time": {"upstreams: [{host: a.example}]\ndrain: long\n", map[int]string{2: "drain"}},
		"a size without unit": {
			"upstreams: [{host: a.example}]\nlimits: {manifestBytes: 4 megabytes}\n",
			map[int]string{2: "size"},
		},
		"zero limits": {
			"upstreams: [{host: a.example}]\nlimits: {signatures: 0, verifyTimeout: 0s}\n",
			map[int]string{2: "must be more than zero"},
		},
		"no upstream": {"listen: 127.0.0.1:1\n", map[int]string{0: "upstreams is empty"}},
		"upstream twice": {
			"upstreams:\n  - host: docker.io\n  - host: index.docker.io\n",
			map[int]string{3: "listed twice"},
		},
		"url with credentials": {
			"upstreams: [{host: a.example, url: 'https://u:p@b.example'}]\n",
			map[int]string{1: "url"},
		},
		"default not listed": {
			"upstreams: [{host: a.example}]\ndefaultUpstream: b.example\n",
			map[int]string{2: "not among the upstreams"},
		},
		"keyless": {
			"upstreams: [{host: a.example}]\npolicies:\n  - name: x\n    images: ['a.example/**']\n" +
				"    authorities:\n      - keyless: {identities: []}\n",
			map[int]string{6: "is empty"},
		},
		"threshold": {
			"upstreams: [{host: a.example}]\npolicies:\n  - {name: x, images: ['a.example/**'], static: allow}\n" +
				"state: {redis: {addr: x}}\n",
			map[int]string{4: "not supported yet"},
		},
		"passthrough": {
			"upstreams: [{host: a.example, auth: {type: passthrough}}]\n",
			map[int]string{1: "not supported yet"},
		},
		"ecr": {
			"upstreams: [{host: a.example, auth: {type: ecr}}]\n",
			map[int]string{1: "not supported yet"},
		},
		"client certificates": {
			"upstreams: [{host: a.example}]\nclients: {auth: mtls}\n",
			map[int]string{2: "not supported yet"},
		},
		"trust roots": {
			"upstreams: [{host: a.example}]\ntrustRoots: [{name: x, file: y}]\n",
			map[int]string{2: "no such file"},
		},
		"missing key": {
			"upstreams: [{host: a.example}]\npolicies:\n  - name: x\n    images: ['a.example/**']\n" +
				"    authorities: [{key: none.pub}]\n",
			map[int]string{5: "none.pub"},
		},
		"open credentials": {
			"listen: 0.0.0.0:5000\nupstreams: [{host: a.example, auth: {type: basic, username: u, passwordFile: p}}]\n",
			map[int]string{1: "read every private image"},
		},
		"missing password": {
			"upstreams: [{host: a.example, auth: {type: basic, username: u, passwordFile: none}}]\n",
			map[int]string{1: "passwordFile"},
		},
		"no certificate": {
			"upstreams: [{host: a.example}]\ntls: {certFile: a.crt}\n",
			map[int]string{2: "both certFile and keyFile"},
		},
		"seconds without unit": {
			"upstreams: [{host: a.example}]\nverdicts: {ttl: 3600, staleIfError: -1h}\n",
			map[int]string{2: "verdicts.ttl is no duration"},
		},
		"zero size": {
			"upstreams: [{host: a.example}]\nlimits: {manifestBytes: 0}\nstate: {maxBytes: 1}\n",
			map[int]string{2: "size"},
		},
		"tiny sizes": {
			"upstreams: [{host: a.example}]\nlimits: {verdictBytes: 2KiB}\nstate: {maxBytes: 1KiB}\n",
			map[int]string{2: "at least", 3: "at least"},
		},
		"octal and truth": {
			"upstreams: [{host: a.example}]\nlimits: {descriptors: 0100}\nverdicts: {maxEntries: true}\n",
			map[int]string{2: "is no number", 3: "is no number"},
		},
		"a number as a name": {
			"upstreams:\n  - host: a.example\n    auth: {type: basic, username: 0123, passwordFile: p}\n",
			map[int]string{3: "put it in quotes"},
		},
		"text for a list": {
			"upstreams: [{host: a.example}]\npolicyFiles: 'a.yaml,b.yaml'\n",
			map[int]string{2: "must be a list"},
		},
		"two documents": {
			"upstreams: [{host: a.example}]\n---\nmode: warn\n",
			map[int]string{2: "second YAML document"},
		},
		"credentials, no type": {
			"upstreams:\n  - host: a.example\n    auth: {username: u, passwordFile: p}\n",
			map[int]string{3: "no type"},
		},
		"passwords for nobody": {
			"upstreams: [{host: a.example}]\nclients: {htpasswdFile: x}\n",
			map[int]string{2: "not supported yet"},
		},
		"url with a fragment": {
			"upstreams: [{host: a.example, url: 'https://b.example/#x'}]\n",
			map[int]string{1: "url"},
		},
		"no such certificate": {
			"upstreams: [{host: a.example}]\ntls: {certFile: none.crt, keyFile: none.key}\n",
			map[int]string{2: "none.crt"},
		},
		"too many entries": {
			"upstreams: [{host: a.example}]\nverdicts: {maxEntries: 1000000000000}\n",
			map[int]string{2: "at most"},
		},
		"not a mapping": {"- a\n", map[int]string{1: "must be a mapping"}},
		"not YAML":      {"a: [\n", map[int]string{0: "line"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, problems := load(writeConfig(t, row.text), telemetry.None())
			for line, want := range row.want {
				found := false
				for _, p := range problems {
					found = found || p.Line == line && strings.Contains(p.Message, want)
				}
				if !found {
					t.Errorf("no problem at line %d says %q; there are %v", line, want, problems)
				}
			}
		})
	}
}

func TestEnvironmentLiesOverTheFile(t *testing.T) {
	t.Setenv("PULLGATE_MODE", "warn")
	t.Setenv("PULLGATE_LIMITS_VERIFYTIMEOUT", "3s")
	t.Setenv("PULLGATE_MANIFESTS_MAXBYTES", "2MiB")
	c, problems := readConfig(writeConfig(t, "mode: enforce\nupstreams: [{host: a.example}]\n"), os.Environ())
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if c.Mode != "warn" || c.Limits.VerifyTimeout != 3*time.Second || c.Manifests.MaxBytes != 2<<20 {
		t.Errorf("mode %q, timeout %v, bytes %d", c.Mode, c.Limits.VerifyTimeout, c.Manifests.MaxBytes)
	}
	t.Setenv("PULLGATE_MODE", "off")
	if _, problems := readConfig(writeConfig(t, "upstreams: [{host: a.example}]\n"), os.Environ()); len(problems) == 0 {
		t.Error("a mistyped variable is taken")
	}
	t.Setenv("PULLGATE_MODE", "")
	for _, name := range []string{"PULLGATE_TLS", "PULLGATE_MOED", "PULLGATE_POLICYFILES", "PULLGATE_STATE"} {
		t.Setenv(name, "1")
		if _, problems := readConfig(
			writeConfig(t, "upstreams: [{host: a.example}]\n"),
			os.Environ(),
		); len(problems) != 1 ||
			!strings.Contains(problems[0].Message, name) {
			t.Errorf("%s is taken or ignored: %v", name, problems)
		}
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PULLGATE_SERVICE_HOST", "10.0.0.1") // as Kubernetes sets it for a service of this name
	t.Setenv("PULLGATE_PORT_5000_TCP", "tcp://10.0.0.1:5000")
	if _, problems := readConfig(writeConfig(t, "upstreams: [{host: a.example}]\n"), os.Environ()); len(problems) > 0 {
		t.Error(problems)
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"1":    1,
		"4096": 4096,
		"4KiB": 4096,
		"1MiB": 1 << 20,
		"2GiB": 2 << 30,
		"7B":   7,
	} {
		var s size
		if err := s.UnmarshalText([]byte(text)); err != nil || int64(s) != want {
			t.Errorf("%q is %d, %v; want %d", text, s, err, want)
		}
	}
	for _, text := range []string{"", "0", "-1", "MiB", "1.5MiB", "1 MiB", "1mb", "9999999999TiB", "1KiBKiB"} {
		var s size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken as %d", text, s)
		}
	}
	c, problems := readConfig(writeConfig(t, "upstreams: [{host: a.example}]\nlimits: {manifestBytes: 1048576}\n"), nil)
	if len(problems) > 0 || c.Limits.ManifestBytes != 1<<20 {
		t.Errorf("a bare number of bytes: %v %v", c.Limits.ManifestBytes, problems)
	}
}

func TestCheckCommand(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	_, key := publicKey(t)
	dir := t.TempDir()
	writeIn(t, dir, "a.pub", key)
	good := writeIn(
		t,
		dir,
		"good.yaml",
		"upstreams: [{host: a.example}]\npolicies: [{name: x, images: ['a.example/**'], authorities: [{key: "+
			"a.pub}]}]\n",
	)
	if err := run(t.Context(), []string{"check", "--config", good}, &out, &errs); err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	if !strings.Contains(out.String(), "1 policy") {
		t.Errorf("it says %q", out.String())
	}
	bad := writeIn(t, dir, "bad.yaml", "mode: off\nupstreams: [{host: a.example}]\npolicies: [{name: x}]\n")
	err := run(t.Context(), []string{"check", "--config", bad}, &out, &errs)
	if exit.Code(err) != exit.Denied {
		t.Fatalf("bad configuration: %v", err)
	}
	for _, line := range []int{1, 3} {
		if want := bad + ":" + strconv.Itoa(line) + ":"; !strings.Contains(errs.String(), want) {
			t.Errorf("no problem at %s in\n%s", want, errs.String())
		}
	}
}
