package server

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/cmd/pullgate/telemetry"
)

func TestExample(t *testing.T) {
	l, problems := Load(filepath.Join("..", "..", "..", "config.example.yaml"), os.Environ(), telemetry.None())
	for _, p := range problems {
		t.Error(p)
	}
	if l == nil || l.upstreams.Len() != 2 || len(l.Policies.Policies()) != 2 {
		t.Fatalf("loaded %+v", l)
	}
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
		"help of two lines": {
			"upstreams: [{host: a.example}]\nclients: {help: \"ask\\nus\"}\n",
			map[int]string{2: "clients.help must be one line"},
		},
		"long help": {
			"upstreams: [{host: a.example}]\nclients: {help: " + strings.Repeat("x", 301) + "}\n",
			map[int]string{2: "clients.help must be one line of at most 300 bytes"},
		},
		"a database that is not verified": {
			"upstreams: [{host: a.example}]\ndatabase: postgres://gate@db.example/facts?sslmode=require\n",
			map[int]string{2: "the connection to db.example must be verified"},
		},
		"a database's password in the file": {
			"upstreams: [{host: a.example}]\n\ndatabase: postgres://gate:secret@db.example/facts\n",
			map[int]string{3: "it holds a password"},
		},
		"a database's files that are missing": {
			"upstreams: [{host: a.example}]\ndatabase: postgres://gate@127.0.0.1/facts\n" +
				"databasePasswordFile: none\ndatabaseNamespaceFile: no-more\n",
			map[int]string{3: "databasePasswordFile: open", 4: "databaseNamespaceFile: open"},
		},
		"a database's files without a database": {
			"upstreams: [{host: a.example}]\ndatabasePasswordFile: none\n",
			map[int]string{2: "databasePasswordFile is set, and database is not"},
		},
		"admin hostname with a port": {
			"upstreams: [{host: a.example}]\nadmin:\n  hostnames: [gate.example, \"gate.example:5001\"]\n",
			map[int]string{3: `"gate.example:5001" is no host`},
		},
		"no blob streams": {
			"upstreams: [{host: a.example}]\nlimits:\n  blobStreams: 0\n  clientBlobStreams: 0\n",
			map[int]string{3: "limits.blobStreams must be", 4: "limits.clientBlobStreams must be"},
		},
		"a rate for no client": {
			"upstreams: [{host: a.example}]\nlimits:\n  blobMinRate: 1GiB\n",
			map[int]string{3: "limits.blobMinRate must be at most 1 MiB"},
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
			map[int]string{4: "unknown key"},
		},
		"client certificates": {
			"upstreams: [{host: a.example}]\nclients: {auth: mtls}\n",
			map[int]string{2: "mtls needs tls.certFile"},
		},
		"client certificates of nobody": {
			"upstreams: [{host: a.example}]\nclients: {auth: [mtls]}\ntls: {certFile: a.crt, keyFile: a.key}\n",
			map[int]string{2: "mtls needs tls.clientCAFile", 3: "a.crt"},
		},
		"authorities without mtls": {
			"upstreams: [{host: a.example}]\ntls: {clientCAFile: ca.crt}\n",
			map[int]string{2: "clients.auth does not list mtls"},
		},
		"no such authorities": {
			"upstreams: [{host: a.example}]\nclients: {auth: [mtls]}\n" +
				"tls:\n  certFile: a.crt\n  keyFile: a.key\n  clientCAFile: none.crt\n",
			map[int]string{6: "none.crt: no such file"},
		},
		"an unknown way": {
			"upstreams: [{host: a.example}]\nclients: {auth: [basic, ldap], htpasswdFile: u}\n",
			map[int]string{2: "\"ldap\"; it must be none, anonymous, or a list of basic, mtls and oidc"},
		},
		"no way": {
			"upstreams: [{host: a.example}]\nclients: {auth: []}\n",
			map[int]string{2: "clients.auth is empty"},
		},
		"ways as a mapping": {
			"upstreams: [{host: a.example}]\nclients: {auth: {basic: x}}\n",
			map[int]string{2: "a list of basic, mtls and oidc"},
		},
		"none among ways": {
			"upstreams: [{host: a.example}]\nclients: {auth: [basic, none], htpasswdFile: u}\n",
			map[int]string{2: "lists none beside others"},
		},
		"a way twice": {
			"upstreams: [{host: a.example}]\nclients: {auth: [basic, basic], htpasswdFile: u}\n",
			map[int]string{2: "lists basic twice"},
		},
		"basic without users": {
			"upstreams: [{host: a.example}]\nclients: {auth: [basic]}\n",
			map[int]string{2: "basic needs clients.htpasswdFile"},
		},
		"no such users": {
			"upstreams: [{host: a.example}]\nclients:\n  auth: [basic]\n  htpasswdFile: none\n",
			map[int]string{4: "none: no such file"},
		},
		"passwords over plain http": {
			"upstreams: [{host: a.example}]\nlisten: 0.0.0.0:5000\nclients: {auth: [basic], htpasswdFile: u}\n",
			map[int]string{3: "secrets over plain http"},
		},
		"tokens over plain http": {
			"upstreams: [{host: a.example}]\nlisten: 0.0.0.0:5000\n" +
				"clients: {auth: [oidc], oidc: {issuer: 'https://i.example', audience: a}}\n",
			map[int]string{3: "secrets over plain http"},
		},
		"oidc without issuer": {
			"upstreams: [{host: a.example}]\nclients: {auth: [oidc]}\n",
			map[int]string{2: "needs clients.oidc.issuer"},
		},
		"oidc without audience": {
			"upstreams: [{host: a.example}]\nclients: {auth: [oidc], oidc: {issuer: 'https://i.example'}}\n",
			map[int]string{2: "needs clients.oidc.audience"},
		},
		"plain issuer": {
			"upstreams: [{host: a.example}]\n" +
				"clients: {auth: [oidc], oidc: {issuer: 'http://i.example', audience: a}}\n",
			map[int]string{2: "must be an https:// address"},
		},
		"no such key set": {
			"upstreams: [{host: a.example}]\n" +
				"clients: {auth: [oidc], oidc: {issuer: i, audience: a, jwksFile: none.json}}\n",
			map[int]string{2: "none.json: no such file"},
		},
		"an issuer without oidc": {
			"upstreams: [{host: a.example}]\nclients: {oidc: {issuer: 'https://i.example'}}\n",
			map[int]string{2: "clients.oidc has no effect"},
		},
		"everybody a proxy": {
			"upstreams: [{host: a.example}]\nclients: {trustedProxies: [0.0.0.0/0]}\n",
			map[int]string{2: "is everybody"},
		},
		"a proxy by name": {
			"upstreams: [{host: a.example}]\nclients: {trustedProxies: [proxy.example]}\n",
			map[int]string{2: "is no network"},
		},
		"the PROXY protocol of nobody": {
			"upstreams: [{host: a.example}]\nclients: {proxyProtocol: true}\n",
			map[int]string{2: "needs clients.trustedProxies"},
		},
		"no truth": {
			"upstreams: [{host: a.example}]\nclients: {proxyProtocol: sometimes}\n",
			map[int]string{2: "neither true nor false"},
		},
		"a policy for clients of no kind": {
			"upstreams: [{host: a.example}]\npolicies:\n" +
				"  - {name: x, images: ['a.example/**'], clients: ['user:ci'], static: deny}\n",
			map[int]string{3: "clients.auth does not list basic"},
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
		"passwords without basic": {
			"upstreams: [{host: a.example}]\nclients: {htpasswdFile: x}\n",
			map[int]string{2: "clients.auth does not list basic"},
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
		"a broken second document": {
			"upstreams: [{host: a.example}]\n---\n: [\n",
			map[int]string{3: "this is no YAML"},
		},
		"nothing": {"# only a comment\n", map[int]string{1: "must be a mapping"}},
		"alias": {
			"listen: &a 127.0.0.1:1\nadmin: *a\nupstreams: [{host: a.example}]\n",
			map[int]string{2: "aliases"},
		},
		"not a mapping": {"- a\n", map[int]string{1: "must be a mapping"}},
		"not YAML":      {"a: [\n", map[int]string{1: "this is no YAML"}},
		"not YAML below": {
			"listen: 127.0.0.1:1\nupstreams: [{host: a.example}\nmode: warn\n",
			map[int]string{2: "this is no YAML: did not find expected ',' or ']'"},
		},
		"a tab": {
			"upstreams:\n  - host: a.example\n\t  url: http://b.example\n",
			map[int]string{3: "a tab character indents the line: YAML wants spaces"},
		},
		"a tab for the indent": {"upstreams:\n\t- host: a.example\n", map[int]string{2: "a tab character indents"}},
		"a port alone": {
			"listen: 5000\nadmin: {listen: 5001}\nupstreams: [{host: a.example}]\n",
			map[int]string{1: `listen is "5000"; write host:port`, 2: `admin.listen is "5001"; write host:port`},
		},
		"a port that is none": {
			"listen: 127.0.0.1:50000000\nupstreams: [{host: a.example}]\n",
			map[int]string{1: "write host:port"},
		},
		"mistyped keys": {
			"upstraems: [{host: a.example}]\npolices: []\nlimits: {verifyTimout: 3s}\n",
			map[int]string{
				1: `did you mean "upstreams"?`,
				2: `did you mean "policies"?`,
				3: `unknown key "limits.verifyTimout"; did you mean "verifyTimeout"?`,
			},
		},
		"nothing alike": {
			"upstreams: [{host: a.example}]\nredis: x\n",
			map[int]string{2: "known here: admin, canary"},
		},
		"a string for a mapping": {
			"upstreams:\n  - a.example\nadmin: 127.0.0.1:5001\nlog: debug\n",
			map[int]string{
				2: "an item of upstreams must be a mapping: write {host: …}",
				3: "admin must be a mapping: write {listen: …}",
				4: "log must be a mapping: write {level: …}",
			},
		},
		"all kinds at once": {
			"mode: off\nupstreams:\n  - {host: a.example, caFile: none.pem}\n  - {host: b.example, uri: x}\n" +
				"drain: long\nlisten: 5000\npolicies:\n  - {name: x}\ntrustRoots:\n  - {name: r, file: none.json}\n" +
				"tls: {certFile: none.crt, keyFile: none.key}\nlimits: {signatures: 0}\n",
			map[int]string{
				1:  "mode is",
				3:  "caFile none.pem",
				4:  `unknown key "upstreams.uri"`,
				5:  "drain is no duration",
				6:  "listen is",
				8:  "has no images",
				10: "none.json",
				11: "none.crt",
				12: "limits.signatures must be more than zero",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, problems := Load(writeIn(t, t.TempDir(), "pullgate.yaml", row.text), os.Environ(), telemetry.None())
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

// TestProblemsInOrder: what is wrong is said once, in the order of the lines; what
// only follows from it is not said.
func TestProblemsInOrder(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		text  string
		lines []int
	}{
		"unknown for upstreams":  {"upstreem: x\nmode: off\n", []int{1, 2}},
		"mistyped for upstreams": {"mode: off\nupstreams: a.example\n", []int{1, 2}},
		"item of upstreams": {
			"mode: off\nupstreams:\n  - a.example\n  - {host: b.example, url: x}\n",
			[]int{1, 3, 4},
		},
		"number for an address": {"listen: 5000\nupstreams: [{host: a.example}]\n", []int{1}},
		"policies and keys": {
			"policies: [{name: x}]\nupstreams: [{host: a.example}]\nlogg: {}\n", []int{1, 1, 3},
		},
		"twice": {"mode: warn\nupstreams: [{host: a.example}]\nmode: off\n", []int{3}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, problems := Load(writeIn(t, t.TempDir(), "pullgate.yaml", row.text), nil, telemetry.None())
			var lines []int
			for _, p := range problems {
				lines = append(lines, p.Line)
			}
			if !slices.Equal(lines, row.lines) {
				t.Errorf("problems at lines %v, want %v: %v", lines, row.lines, problems)
			}
		})
	}
}
