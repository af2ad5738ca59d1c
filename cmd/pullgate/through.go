package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"

	"github.com/pullgate/pullgate/cmd/pullgate/config"
	"github.com/pullgate/pullgate/cmd/pullgate/imagename"
)

// askGateTime is for a host to show whether it is a gate.
const askGateTime = 10 * time.Second

// pastGate returns what an image is called at its registry, for a command that has
// no configuration to tell it. A name through a gate, gate.example:5000/ghcr.io/acme/app,
// becomes ghcr.io/acme/app if a gate answers at its host. Any other is returned as
// it is.
func pastGate(cmd *cobra.Command, image string) (string, error) {
	parsed, err := imagename.Parse(image)
	if err != nil {
		return "", err
	}
	ref, err := name.ParseReference(image)
	if err != nil { // a path with a port in it: imagename has passed the gate
		return parsed.String(), nil
	}

	inner, ok := imagename.Through(parsed)
	if !ok || !isGate(cmd.Context(), ref) {
		return image, nil
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s is a gate; its registry is asked for %s\n", ref.Context().RegistryStr(), inner)
	return inner.String(), nil
}

// isGate reports whether the host of ref decides about the image as a gate does.
func isGate(ctx context.Context, ref name.Reference) bool {
	ctx, cancel := context.WithTimeout(ctx, askGateTime)
	defer cancel()

	repo := ref.Context()
	url := fmt.Sprintf("%s/v2/%s/manifests/%s",
		registryURL(ctx, repo.RegistryStr()), repo.RepositoryStr(), ref.Identifier())
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
	if err != nil {
		return false
	}

	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.Header.Get("Pullgate-Decision") != ""
}

// registryURL is where a registry is asked: by https, but on this machine by http
// where it speaks no https, as people try things out.
func registryURL(ctx context.Context, host string) string {
	const secure, plain = "https://", "http://"
	if !config.IsLoopback(host) && !config.IsLoopback(host+":443") {
		return secure + host
	}

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, secure+host+"/v2/", nil)
	if err != nil {
		return secure + host
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	var untrusted *tls.CertificateVerificationError
	switch {
	case err == nil:
		_ = resp.Body.Close() // that it answered is enough
		return secure + host
	case errors.As(err, &untrusted):
		return secure + host
	}
	return plain + host
}
