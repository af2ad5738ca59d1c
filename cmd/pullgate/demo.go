package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/cmd/pullgate/server"
	"github.com/pullgate/pullgate/cmd/pullgate/telemetry"
)

func demoCommand() *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See the gate admit signed images and refuse an unsigned one",
		Long: `demo starts a registry in this process with three images: one signed, one signed
for two platforms, one unsigned, all under a key made for the occasion. It puts
the gate before it, pulls each, shows what happened, and stays up so that you
can try your own client. Everything is on 127.0.0.1 and gone when it ends.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), once)
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "leave after the pulls")
	return cmd
}

// demoPorts are preferred, so that the printed commands look the same each
// time; taken ones are replaced.
const (
	demoGatePort  = "5000"
	demoAdminPort = "5001"
)

func demo(ctx context.Context, out, stderr io.Writer, once bool) error {
	dir, err := os.MkdirTemp("", "pullgate-demo-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	quiet := log.New(io.Discard, "", 0)
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("start the demo registry: %w", err)
	}
	reg := &http.Server{
		Handler:           registry.New(registry.Logger(quiet), registry.WithReferrersSupport(true)),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          quiet,
	}
	go reg.Serve(listener) //nolint:errcheck // ends with Close
	defer reg.Close()

	key, err := demoKey(dir)
	if err != nil {
		return err
	}
	upstreamAddr := listener.Addr().String()
	images, err := pushDemoImages(ctx, upstreamAddr, key)
	if err != nil {
		return fmt.Errorf("fill the demo registry: %w", err)
	}
	gateAddr, err := freeAddr(ctx, demoGatePort)
	if err != nil {
		return err
	}
	adminAddr, err := freeAddr(ctx, demoAdminPort)
	if err != nil {
		return err
	}
	file, err := demoConfig(dir, upstreamAddr, gateAddr, adminAddr)
	if err != nil {
		return err
	}
	l, problems := server.Load(file, nil, telemetry.None())
	if len(problems) > 0 {
		return refuse(stderr, problems)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, l, server.Options{Log: io.Discard, Record: openRecord}) }()
	if err := waitFor(ctx, "http://"+gateAddr+"/v2/", served); err != nil {
		return err
	}
	fmt.Fprintf(out, "A registry with three images is up, and the gate before it at %s.\n", gateAddr)
	fmt.Fprintf(out, "Its policy: demo.example/** must be signed by the key made a moment ago.\n\n")
	wrong := false
	for _, image := range images {
		ok, err := demoPull(ctx, out, gateAddr, image)
		if err != nil {
			return err
		}
		wrong = wrong || ok != image.signed
	}
	if wrong {
		return errors.New("the demo did not go as it should")
	}
	if !once {
		fmt.Fprintf(out, demoCommands, gateAddr, gateAddr, gateAddr, gateAddr, gateAddr)
		select {
		case <-ctx.Done():
		case err := <-served:
			return err
		}
	}
	cancel()
	return <-served
}

const demoCommands = `Try it yourself; the gate stays up until you press Ctrl-C:

  curl -i http://%s/v2/demo.example/unsigned/manifests/latest
  crane manifest %s/demo.example/signed:latest
  crane pull %s/demo.example/unsigned:latest /tmp/unsigned.tar
  docker pull %s/demo.example/multi:latest
  docker pull %s/demo.example/unsigned:latest
`

func demoKey(dir string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("write the key: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	return key, os.WriteFile(filepath.Join(dir, "demo.pub"), text, 0o600)
}

func demoConfig(dir, upstream, gate, admin string) (string, error) {
	text, err := yaml.Marshal(map[string]any{
		"listen": gate, "admin": map[string]any{"listen": admin}, "drain": "1s",
		"upstreams": []any{map[string]any{"host": "demo.example", "url": "http://" + upstream}},
		"policies": []any{map[string]any{
			"name":        "demo",
			"images":      []string{"demo.example/**"},
			"authorities": []any{map[string]any{"name": "demo-key", "key": "demo.pub"}},
		}},
	})
	if err != nil {
		return "", fmt.Errorf("write the demo's configuration: %w", err)
	}
	file := filepath.Join(dir, "pullgate.yaml")
	return file, os.WriteFile(file, text, 0o600)
}

// freeAddr is 127.0.0.1 with the wanted port, or any when that one is taken.
func freeAddr(ctx context.Context, port string) (string, error) {
	var open net.ListenConfig
	l, err := open.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		l, err = open.Listen(ctx, "tcp", "127.0.0.1:0")
	}
	if err != nil {
		return "", fmt.Errorf("find a port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

// demoPull asks for an image as a client would and prints what came of it.
func demoPull(ctx context.Context, out io.Writer, gate string, image demoImage) (admitted bool, err error) {
	url := fmt.Sprintf("http://%s/v2/demo.example/%s/manifests/latest", gate, image.name)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false, fmt.Errorf("pull %s: %w", image.name, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, fmt.Errorf("pull %s: %w", image.name, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return false, fmt.Errorf("pull %s: %w", image.name, err)
	}
	fmt.Fprintf(out, "pull %s/demo.example/%s:latest (%s)\n", gate, image.name, image.what)
	if resp.StatusCode == http.StatusOK {
		fmt.Fprintf(out, "  %s, %s\n\n", resp.Status, resp.Header.Get("Docker-Content-Digest"))
		return true, nil
	}
	var envelope struct {
		Errors []struct{ Code, Message string } `json:"errors"`
	}
	if err := json.Unmarshal(body, &envelope); err != nil || len(envelope.Errors) == 0 {
		return false, fmt.Errorf("pull %s: unexpected answer %s", image.name, resp.Status)
	}
	fmt.Fprintf(
		out,
		"  %s\n  %s: %s\n\n",
		resp.Status,
		envelope.Errors[0].Code,
		strings.TrimSpace(envelope.Errors[0].Message),
	)
	return false, nil
}

func demoTag(registryAddr, repo string) (name.Tag, error) {
	return name.NewTag(registryAddr+"/"+repo+":latest", name.Insecure)
}
