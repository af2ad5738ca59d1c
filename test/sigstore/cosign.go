package sigstore

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	protoroot "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
)

// Services are the servers that one signing asks, by the URLs of the Stack;
// what is empty is not asked.
type Services struct {
	Fulcio string // for keyless signing
	Rekor  string // Stack.RekorV1 or RekorV2
	TSA    string
}

// Cosign3 runs cosign 3's sign or attest, which writes a bundle.
func (s *Stack) Cosign3(ctx context.Context, services Services, command string, args ...string) error {
	config, err := s.SigningConfig(services)
	if err != nil {
		return fmt.Errorf("make a signing config: %w", err)
	}
	return s.cosign(ctx, "cosign", append([]string{command, "--yes", "--signing-config", config}, args...))
}

// Cosign2 runs cosign 2's sign or attest, which writes a .sig or .att tag. It
// knows the first Rekor only.
func (s *Stack) Cosign2(ctx context.Context, services Services, command string, args ...string) error {
	if services.Rekor == s.RekorV2 && services.Rekor != "" {
		return fmt.Errorf("cosign-v2 %s: it cannot write to %s: choose RekorV1", command, services.Rekor)
	}
	all := []string{command, "--yes", "--tlog-upload=" + fmt.Sprint(services.Rekor != "")}
	if services.Fulcio != "" {
		all = append(all, "--fulcio-url", services.Fulcio)
	}
	if services.Fulcio == s.FulcioNoCT {
		all = append(all, "--insecure-skip-verify")
	}
	if services.Rekor != "" {
		all = append(all, "--rekor-url", services.Rekor)
	}
	if services.TSA != "" {
		all = append(all, "--timestamp-server-url", services.TSA)
	}
	return s.cosign(ctx, "cosign-v2", append(all, args...))
}

func (s *Stack) cosign(ctx context.Context, tool string, args []string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.Dir, "COSIGN_PASSWORD=", "DOCKER_CONFIG=" + s.Dir,
		// Nothing is asked of the internet.
		"TUF_ROOT=" + s.file("tuf"), "HTTPS_PROXY=http://127.0.0.1:9", "NO_PROXY=127.0.0.1",
	}
	if tool == "cosign-v2" {
		cmd.Env = append(
			cmd.Env,
			"SIGSTORE_ROOT_FILE="+s.file("fulcio.pem"),
			"SIGSTORE_CT_LOG_PUBLIC_KEY_FILE="+s.file("ctlog.pub"),
			"SIGSTORE_REKOR_PUBLIC_KEY="+s.file("rekor1.pub"),
			"SIGSTORE_TSA_CERTIFICATE_FILE="+s.file("tsa.pem"),
		)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", tool, strings.Join(args, " "), err, out)
	}
	return nil
}

// SigningConfig writes the file that tells cosign 3 whom to ask, and returns its name.
func (s *Stack) SigningConfig(services Services) (string, error) {
	service := func(url string, version uint32) []root.Service {
		if url == "" {
			return nil
		}
		return []root.Service{{
			URL:                 url,
			MajorAPIVersion:     version,
			ValidityPeriodStart: start(),
			Operator:            "acme.example",
		}}
	}
	version := uint32(1)
	if services.Rekor == s.RekorV2 {
		version = 2
	}
	anyOf := root.ServiceConfiguration{Selector: protoroot.ServiceSelector_ANY}
	config, err := root.NewSigningConfig(
		root.SigningConfigMediaType02,
		service(services.Fulcio, 1),
		nil,
		service(services.Rekor, version),
		anyOf,
		service(strings.TrimSuffix(services.TSA, "/"), 1),
		anyOf,
	)
	if err != nil {
		return "", err
	}
	b, err := json.Marshal(config)
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp(s.Dir, "signing-config-*.json")
	if err != nil {
		return "", err
	}
	defer f.Close()
	_, err = f.Write(b)
	return f.Name(), err
}

// KeyPair makes PREFIX.key and PREFIX.pub, without a password.
func (s *Stack) KeyPair(ctx context.Context, prefix string) error {
	return s.cosign(ctx, "cosign", []string{"generate-key-pair", "--output-key-prefix", prefix})
}

// ImportKey makes PREFIX.key and PREFIX.pub, as cosign has them, of a private
// key in PEM.
func (s *Stack) ImportKey(ctx context.Context, file, prefix string) error {
	return s.cosign(ctx, "cosign", []string{"import-key-pair", "--key", file, "--output-key-prefix", prefix})
}
