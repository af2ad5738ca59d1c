package sigstore

import (
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// startStack brings up a stack for one test. Without the programs the test is
// skipped, or fails where CI must have them.
func startStack(t *testing.T) *Stack {
	t.Helper()
	for _, tool := range Needs {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("PULLGATE_E2E") == "1" {
				t.Fatalf("%s is missing; .ci/install says how to get it", tool)
			}
			t.Skipf("it needs %s; .ci/install says how to get it", tool)
		}
	}
	s, err := Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func image(t *testing.T) name.Digest {
	t.Helper()
	server := httptest.NewServer(
		registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)),
	)
	t.Cleanup(server.Close)
	tag, err := name.NewTag(strings.TrimPrefix(server.URL, "http://")+"/acme/app:v1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	img, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, img); err != nil {
		t.Fatal(err)
	}
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return tag.Digest(d.String())
}

// What the stack's services sign, both cosigns verify under its roots, and only
// for who has signed.
func TestCosignBelievesTheStack(t *testing.T) {
	s := startStack(t)
	const dev, qa = "dev@acme.example", "qa@acme.example"
	token, err := s.Email(dev)
	if err != nil {
		t.Fatal(err)
	}
	verify := func(t *testing.T, tool string, args ...string) {
		t.Helper()
		identity := []string{"--certificate-oidc-issuer", Accounts, "--certificate-identity"}
		if err := s.cosign(
			t.Context(),
			tool,
			append(append(append([]string{"verify"}, identity...), dev), args...),
		); err != nil {
			t.Error(err)
		}
		if err := s.cosign(
			t.Context(),
			tool,
			append(append(append([]string{"verify"}, identity...), qa), args...),
		); err == nil {
			t.Errorf("%s finds a signature by %s, who has made none", tool, qa)
		}
	}
	for name, services := range map[string]Services{
		"Rekor 2":             {Fulcio: s.Fulcio, Rekor: s.RekorV2, TSA: s.TSA},
		"Rekor 1":             {Fulcio: s.Fulcio, Rekor: s.RekorV1},
		"Rekor 1 and a stamp": {Fulcio: s.Fulcio, Rekor: s.RekorV1, TSA: s.TSA},
	} {
		t.Run("bundle, "+name, func(t *testing.T) {
			t.Parallel()
			ref := image(t)
			if err := s.Cosign3(t.Context(), services, "sign", "--identity-token", token, ref.String()); err != nil {
				t.Fatal(err)
			}
			args := []string{"--trusted-root", s.Root, ref.String()}
			if services.TSA != "" {
				args = append([]string{"--use-signed-timestamps"}, args...)
			}
			verify(t, "cosign", args...)
		})
		if services.Rekor == s.RekorV2 {
			continue
		}
		t.Run("tag, "+name, func(t *testing.T) {
			t.Parallel()
			ref := image(t)
			if err := s.Cosign2(t.Context(), services, "sign", "--identity-token", token, ref.String()); err != nil {
				t.Fatal(err)
			}
			verify(t, "cosign-v2", ref.String())
		})
	}
}

// The certificate of a job says whose repository it ran in, whoever's workflow signed.
func TestGitHubAttestation(t *testing.T) {
	s := startStack(t)
	w := Workflow{
		Repository: "mallory/app", File: ".github/workflows/steal.yml", Ref: "refs/heads/main", Private: true,
		Reusable: "acme/workflows/.github/workflows/sign.yml@refs/tags/v1",
	}
	token, err := s.Actions(w)
	if err != nil {
		t.Fatal(err)
	}
	ref := image(t)
	if err := s.Attest(t.Context(), Services{
		Fulcio: s.FulcioGitHub,
		TSA:    s.TSAGitHub,
	}, token, ref, SLSAProvenance, Provenance(w)); err != nil {
		t.Fatal(err)
	}
	verify := func(repository string) error {
		return s.cosign(t.Context(), "cosign", []string{
			"verify-attestation",
			"--trusted-root",
			s.RootGitHub,
			"--type",
			"slsaprovenance1",
			"--use-signed-timestamps",
			"--insecure-ignore-tlog",
			"--insecure-ignore-sct",
			"--certificate-oidc-issuer",
			Actions,
			"--certificate-identity",
			"https://github.com/" + w.Reusable,
			"--certificate-github-workflow-repository",
			repository,
			ref.String(),
		})
	}
	if err := verify("mallory/app"); err != nil {
		t.Error(err)
	}
	if err := verify("acme/app"); err == nil {
		t.Error("the certificate names acme/app, which only owns the workflow")
	}
}
