package server

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/cmd/pullgate/telemetry"
	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy/upstream/credentials"
)

const ecrHost = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"

// What is wrong with an upstream's credentials is said at load time, each with its
// line.
func TestBadAuth(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "provider")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	writeIn(t, dir, "key.json", `{"type":"service_account","private_key":"s3cr3t"}`)
	writeIn(t, dir, "garbage", "s3cr3t s3cr3t")

	for name, row := range map[string]struct {
		host, auth string
		want       map[int]string // line → part of the message; auth begins at line 4
	}{
		"mistyped type": {"a.example", "type: ecrr", map[int]string{4: `auth type "ecrr"; did you mean "ecr"?`}},
		"other case":    {"a.example", "type: dockerconfig", map[int]string{4: `did you mean "dockerConfig"?`}},
		"unknown type": {
			"a.example",
			"type: vault",
			map[int]string{
				4: "it must be one of: anonymous, basic, dockerConfig, token, ecr, gcr, acr, credentialProvider, ",
			},
		},
		"ecr elsewhere": {"a.example", "type: ecr", map[int]string{4: "a.example is none"}},
		"ecr's look-alike": {
			ecrHost + ".evil.example",
			"type: ecr",
			map[int]string{4: "upstream " + ecrHost + ".evil.example: auth type ecr is for hosts of Amazon's ECR"},
		},
		"ecr by http": {"a.example\n    url: http://" + ecrHost, "type: ecr", map[int]string{5: "not asked by https"}},
		"ecr by another url": {
			ecrHost + "\n    url: https://evil.example",
			"type: ecr",
			map[int]string{5: "evil.example is none"},
		},
		"a role that is none": {ecrHost, "type: ecr\n      roleARN: pull", map[int]string{4: "no ARN of a role"}},
		"keys of other types": {
			ecrHost,
			"type: ecr\n      username: u\n      passwordFile: p\n      realms: [b.example]\n      clientID: x",
			map[int]string{
				5: "auth type ecr takes no username; it is for basic",
				6: "auth type ecr takes no passwordFile; it is for basic",
				7: "auth type ecr takes no realms; " +
					"it is for basic and dockerConfig and credentialProvider and passthrough",
				8: "auth type ecr takes no clientID; it is for acr",
			},
		},
		"gcr elsewhere":        {"evil-pkg.dev", "type: gcr", map[int]string{4: "evil-pkg.dev is none"}},
		"gcr's missing file":   {"gcr.io", "type: gcr\n      file: none.json", map[int]string{4: "none.json"}},
		"gcr's file of a sort": {"gcr.io", "type: gcr\n      file: garbage", map[int]string{4: "no file of Google's"}},
		"acr elsewhere":        {"x.azurecr.io.evil.example", "type: acr", map[int]string{4: "evil.example is none"}},
		"acr on a port":        {"x.azurecr.io:8443", "type: acr", map[int]string{4: "not asked by https on port 443"}},
		"token without file":   {"a.example", "type: token", map[int]string{4: "auth type token takes file"}},
		"token's missing file": {"a.example", "type: token\n      file: none", map[int]string{4: "none"}},
		"token of two words":   {"a.example", "type: token\n      file: garbage", map[int]string{4: "holds no token"}},
		"provider without program": {
			"a.example",
			"type: credentialProvider",
			map[int]string{4: "auth type credentialProvider takes command"},
		},
		"a relative program": {
			"a.example",
			"type: credentialProvider\n      command: provider",
			map[int]string{4: "an absolute path"},
		},
		"a missing program": {
			"a.example",
			"type: credentialProvider\n      command: /nowhere/provider",
			map[int]string{4: "/nowhere/provider"},
		},
		"no program": {
			"a.example",
			"type: credentialProvider\n      command: " + filepath.Join(dir, "garbage"),
			map[int]string{4: "is no program"},
		},
		"provider's settings": {
			"a.example",
			"type: credentialProvider\n      command: " + program + "\n      timeout: 10m\n      env: {A-B: x}",
			map[int]string{6: "timeout must be at most 2m", 7: `env: "A-B" is no name of a variable`},
		},
		"a timeout without unit": {
			"a.example",
			"type: credentialProvider\n      command: " + program + "\n      timeout: 10",
			map[int]string{6: "is no duration"},
		},
		"args that are no list": {
			"a.example",
			"type: credentialProvider\n      command: " + program + "\n      args: get",
			map[int]string{6: "must be a list"},
		},
		"role without a type": {"a.example", "roleARN: x", map[int]string{4: "no type: write type: ecr"}},
	} {
		t.Run(name, func(t *testing.T) {
			text := "upstreams:\n  - host: " + row.host + "\n    auth:\n      " + row.auth + "\n"
			_, problems := Load(writeIn(t, dir, "pullgate.yaml", text), nil, telemetry.None())
			for line, want := range row.want {
				found := false
				for _, p := range problems {
					found = found || p.Line == line && strings.Contains(p.Message, want)
				}
				if !found {
					t.Errorf("no problem at line %d says %q; there are %v", line, want, problems)
				}
			}
			for _, p := range problems {
				if strings.Contains(p.String(), "s3cr3t") {
					t.Errorf("a problem shows a secret: %v", p)
				}
			}
		})
	}
}

// Every type that shows a registry the gate's credentials wants a listener on
// loopback, or to be told that all of its clients may use them.
func TestExposedAuth(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "provider")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	writeIn(t, dir, "token", "x")
	for auth, host := range map[string]string{
		"{type: ecr}":                "public.ecr.aws",
		"{type: gcr}":                "gcr.io",
		"{type: acr}":                "acme.azurecr.io",
		"{type: token, file: token}": "a.example",
		"{type: credentialProvider, command: " + program + "}": "a.example",
	} {
		t.Run(auth, func(t *testing.T) {
			t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
			text := "listen: 0.0.0.0:5000\nupstreams: [{host: " + host + ", auth: " + auth + "}]\n"
			_, problems := Load(writeIn(t, dir, "pullgate.yaml", text), nil, telemetry.None())
			if len(problems) != 1 || !strings.Contains(problems[0].Message, "read every private image") {
				t.Errorf("problems: %v", problems)
			}
			_, problems = Load(
				writeIn(t, dir, "pullgate.yaml", text+"clients: {auth: anonymous}\n"),
				nil,
				telemetry.None(),
			)
			if len(problems) != 0 {
				t.Errorf("problems: %v", problems)
			}
		})
	}
}

// Where clients show their own credentials, the gate has none to expose.
func TestPassthroughListener(t *testing.T) {
	text := "listen: 0.0.0.0:5000\nclients: {trustedProxies: [10.0.0.0/24]}\n" +
		"upstreams: [{host: a.example, auth: {type: passthrough, realms: [b.example]}}]\n"
	l, problems := Load(writeIn(t, t.TempDir(), "pullgate.yaml", text), nil, telemetry.None())
	if len(problems) != 0 || !l.upstreams.AnyPassesThrough() {
		t.Errorf("problems: %v", problems)
	}
}

// A client has one password to show, and it is for one registry.
func TestPassthroughAlone(t *testing.T) {
	for name, text := range map[string]string{
		"basic": "clients: {auth: [basic], htpasswdFile: users}\n" +
			"upstreams: [{host: a.example, auth: {type: passthrough}}]\n",
		"mirrors": "upstreams: [{host: a.example, urls: [https://a.example], auth: {type: passthrough}}]\n",
		"no TLS":  "listen: 0.0.0.0:5000\nupstreams: [{host: a.example, auth: {type: passthrough}}]\n",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			_, problems := Load(writeIn(t, dir, "pullgate.yaml", text), nil, telemetry.None())
			said := func(p policy.Problem) bool { return strings.Contains(p.Message, "passthrough") }
			if !slices.ContainsFunc(problems, said) {
				t.Errorf("problems: %v", problems)
			}
		})
	}
}

// A wildcard over a cloud's hosts has that cloud's credentials, and no other host's.
func TestCloudWildcards(t *testing.T) {
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
	for host, row := range map[string]struct{ auth, want string }{
		"*.dkr.ecr.*.amazonaws.com": {"ecr", ""},
		"*.pkg.dev":                 {"gcr", ""},
		"*.azurecr.io":              {"acr", ""},
		"*.acme.example":            {"ecr", "is for hosts of Amazon's ECR"},
	} {
		t.Run(host, func(t *testing.T) {
			text := "upstreams: [{host: '" + host + "', auth: {type: " + row.auth + "}}]\n"
			_, problems := Load(writeIn(t, t.TempDir(), "pullgate.yaml", text), nil, telemetry.None())
			if row.want == "" && len(problems) > 0 ||
				row.want != "" && (len(problems) != 1 || !strings.Contains(problems[0].Message, row.want)) {
				t.Errorf("problems: %v", problems)
			}
		})
	}
}

// A plugin's environment has the names that the file has, and no other case.
func TestProviderEnvironment(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "provider")
	text := "#!/bin/sh\nenv > " + dir + "/environment\nprintf '%s|' \"$@\" > " + dir + "/arguments\n"
	if err := os.WriteFile(program, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	l, problems := Load(writeIn(t, dir, "pullgate.yaml", "upstreams:\n  - host: a.example\n  - host: b.example\n"+
		"    auth:\n      type: credentialProvider\n      command: "+program+"\n      args: [Get, '--x=Y z']\n"+
		"      timeout: 30s\n      env: {AWS_PROFILE: Pull, MixedCase: \"1\", NUMBER: 012}\n"), nil, telemetry.None())
	if len(problems) > 0 {
		t.Fatal(problems)
	}

	source, err := l.source(
		l.Config.Upstreams[1].Auth,
		credentials.Registry{Host: "b.example", Address: "b.example", ImpliedPort: "443"},
	)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := source.Get(context.Background(), policy.Repository{Host: "b.example", Path: "app"}); err == nil {
		t.Error("no answer is an answer")
	}
	environment, err := os.ReadFile(filepath.Join(dir, "environment"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"AWS_PROFILE=Pull\n", "MixedCase=1\n", "NUMBER=012\n"} {
		if !strings.Contains(string(environment), want) {
			t.Errorf("%q is not in %s", want, environment)
		}
	}
	if arguments, _ := os.ReadFile(filepath.Join(dir, "arguments")); string(arguments) != "Get|--x=Y z|" {
		t.Errorf("the arguments are %q", arguments)
	}
}
