package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/pullgate/pullgate/test/sigstore"
)

// TestKeyless signs with real cosigns and a real Sigstore and pulls through the
// gate, on registries with the referrers API and on one without.
func TestKeyless(t *testing.T) {
	need(t, append([]string{"crane"}, sigstore.Needs...)...)
	s, err := sigstore.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	for kind, start := range registries {
		t.Run(kind, func(t *testing.T) {
			registry := start(t)
			dir := t.TempDir()
			private, public := keyPair(t)
			g := startGateOf(t, dir, fmt.Sprintf(`
trustRoots: [{name: local, file: %s}, {name: private, file: %s}]
upstreams: [{host: reg.test, url: "http://%s"}]
policies:
  - name: dev
    images: ["reg.test/dev/**"]
    authorities: [{name: dev, keyless: {trustRoots: [local], identities: [{issuer: %s, subject: dev@acme.example}]}}]
  - name: two
    images: ["reg.test/two/**"]
    threshold: 2
    authorities:
      - {name: dev, keyless: {trustRoots: [local], identities: [{issuer: %[4]s, subject: dev@acme.example}]}}
      - {name: release, key: %s, transparencyLog: require, trustRoot: local}
  - name: job
    images: ["reg.test/job/**"]
    authorities:
      - name: ci
        github: {owner: acme, workflow: acme/workflows/.github/workflows/sign.yml, trustRoots: [local]}
  - name: built
    images: ["reg.test/built/**"]
    authorities: [{name: ci, accept: [slsaprovenance1], github: {owner: acme, trustRoots: [local, private]}}]
`, s.Root, s.RootGitHub, registry, sigstore.Accounts, public))
			k := &keylessTest{Stack: s, gate: g, registry: registry, key: private}
			t.Run("persons", k.persons)
			t.Run("two authorities", k.twoAuthorities)
			t.Run("jobs", k.jobs)
			t.Run("attestations", k.attestations)
		})
	}
}

// keylessTest is one stack, one registry and the gate before it.
type keylessTest struct {
	*sigstore.Stack
	gate     *gate
	registry string
	key      string
}

// push puts a fresh image into the registry and returns its name by digest.
func (k *keylessTest) push(t *testing.T, image string) string {
	t.Helper()
	return k.registry + "/" + image + "@" + pushIndex(t, k.registry+"/"+image+":v1", 100)
}

func (k *keylessTest) admitted(t *testing.T, image string) {
	t.Helper()
	if out, err := run(
		t,
		"crane",
		"pull",
		k.gate.name(image+":v1"),
		filepath.Join(t.TempDir(), "image.tar"),
	); err != nil {
		t.Errorf("%s is not admitted: %v\n%s", image, err, out)
	}
}

func (k *keylessTest) refused(t *testing.T, image, why string) {
	t.Helper()
	out, err := run(t, "crane", "pull", k.gate.name(image+":v1"), filepath.Join(t.TempDir(), "image.tar"))
	if err == nil || !strings.Contains(out, "DENIED") || !strings.Contains(out, why) {
		t.Errorf("%s is not refused with %q: %v\n%s", image, why, err, out)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (k *keylessTest) persons(t *testing.T) {
	rekor2 := sigstore.Services{Fulcio: k.Fulcio, Rekor: k.RekorV2, TSA: k.TSA}
	rekor1 := sigstore.Services{Fulcio: k.Fulcio, Rekor: k.RekorV1}
	stamped := sigstore.Services{Fulcio: k.Fulcio, Rekor: k.RekorV1, TSA: k.TSA}
	for way, sign := range map[string]func(token, ref string) error{
		"v3-rekor2": func(token, ref string) error {
			return k.Cosign3(t.Context(), rekor2, "sign", "--identity-token", token, ref)
		},
		"v3-rekor1": func(token, ref string) error {
			return k.Cosign3(t.Context(), rekor1, "sign", "--identity-token", token, ref)
		},
		"v2-rekor1": func(token, ref string) error {
			return k.Cosign2(t.Context(), rekor1, "sign", "--identity-token", token, ref)
		},
		"v2-rekor1-tsa": func(token, ref string) error {
			return k.Cosign2(t.Context(), stamped, "sign", "--identity-token", token, ref)
		},
	} {
		for _, email := range []string{"dev@acme.example", "qa@acme.example"} {
			who, _, _ := strings.Cut(email, "@")
			token, err := k.Email(email)
			must(t, err)
			must(t, sign(token, k.push(t, "dev/"+way+"-"+who)))
		}
		k.admitted(t, "dev/"+way+"-dev")
		k.refused(t, "dev/"+way+"-qa", "it names another identity, qa@acme.example")
	}
	k.push(t, "dev/unsigned")
	k.refused(t, "dev/unsigned", "no signature found")
}

// A person signs, and so does a key, whose signature must be in the log.
func (k *keylessTest) twoAuthorities(t *testing.T) {
	keyless := sigstore.Services{Fulcio: k.Fulcio, Rekor: k.RekorV2, TSA: k.TSA}
	token, err := k.Email("dev@acme.example")
	must(t, err)
	for image, log := range map[string]string{"two/logged": k.RekorV1, "two/not-logged": ""} {
		ref := k.push(t, image)
		must(t, k.Cosign3(t.Context(), keyless, "sign", "--identity-token", token, ref))
		must(t, k.Cosign2(t.Context(), sigstore.Services{Rekor: log}, "sign", "--key", k.key, ref))
	}
	k.admitted(t, "two/logged")
	k.refused(t, "two/not-logged", "no transparency log entry proves it")
}

// Our reusable workflow signs for whoever calls it.
func (k *keylessTest) jobs(t *testing.T) {
	for caller, line := range map[string]string{
		"acme/app":     "v3",
		"mallory/app":  "v3",
		"acme/tool":    "v2",
		"mallory/tool": "v2",
	} {
		token, err := k.Actions(sigstore.Workflow{
			Repository: caller,
			File:       ".github/workflows/release.yml",
			Ref:        "refs/tags/v1",
			Reusable:   "acme/workflows/.github/workflows/sign.yml@refs/tags/v2",
		})
		must(t, err)
		ref := k.push(t, "job/"+caller)
		if line == "v3" {
			must(t, k.Cosign3(t.Context(), sigstore.Services{
				Fulcio: k.Fulcio,
				Rekor:  k.RekorV2,
				TSA:    k.TSA,
			}, "sign", "--identity-token", token, ref))
		} else {
			must(t, k.Cosign2(t.Context(), sigstore.Services{
				Fulcio: k.Fulcio,
				Rekor:  k.RekorV1,
			}, "sign", "--identity-token", token, ref))
		}
		if strings.HasPrefix(caller, "acme/") {
			k.admitted(t, "job/"+caller)
		} else {
			k.refused(t, "job/"+caller, `owner of the source repository is "https://github.com/mallory"`)
		}
	}
}

// GitHub attests images of public and of private repositories.
func (k *keylessTest) attestations(t *testing.T) {
	for kind, services := range map[string]sigstore.Services{
		"public":  {Fulcio: k.Fulcio, Rekor: k.RekorV1},
		"private": {Fulcio: k.FulcioGitHub, TSA: k.TSAGitHub},
	} {
		for _, owner := range []string{"acme", "mallory"} {
			w := sigstore.Workflow{
				Repository: owner + "/app",
				File:       ".github/workflows/release.yml",
				Ref:        "refs/tags/v1",
				Private:    kind == "private",
			}
			token, err := k.Actions(w)
			must(t, err)
			ref, err := name.NewDigest(k.push(t, "built/"+kind+"-"+owner), name.Insecure)
			must(t, err)
			must(t, k.Attest(t.Context(), services, token, ref, sigstore.SLSAProvenance, sigstore.Provenance(w)))
		}
		k.admitted(t, "built/"+kind+"-acme")
		k.refused(t, "built/"+kind+"-mallory", "owner of the source repository")
	}
}

// startGateOf serves a configuration, whose files are in dir.
func startGateOf(t *testing.T, dir, config string) *gate {
	t.Helper()
	g := &gate{addr: "127.0.0.1:" + freePort(t), admin: "127.0.0.1:" + freePort(t)}
	g.config = writeFile(
		t,
		filepath.Join(dir, "pullgate.yaml"),
		fmt.Sprintf("listen: %s\nadmin: {listen: %q}\n%s", g.addr, g.admin, config),
	)
	g.up(t)
	return g
}
