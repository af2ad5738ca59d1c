// Package rig is a gate before a registry with the demo's images, for the tests
// of the program.
package rig

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/pullgate/pullgate/cmd/pullgate/demo"
	"github.com/pullgate/pullgate/cmd/pullgate/server"
	"github.com/pullgate/pullgate/cmd/pullgate/telemetry"
)

// SignedByKey is the policy that demands a signature by the key in key.pub.
const SignedByKey = "policies: [{name: keyed, images: [\"demo.example/**\"], authorities: [{name: k, key: key.pub}]}]\n"

const (
	patience = 60 * time.Second      // for what takes effect when files have settled
	askEvery = 20 * time.Millisecond // until it has
)

// Rig is a gate before a registry.
type Rig struct {
	Dir         string // with pullgate.yaml
	Gate, Admin string // addresses
	Key         string // PEM of the public key that signed
	Config      string // what pullgate.yaml held at the start
	Hangup      chan os.Signal
	Log         Lines
}

// Start serves the configuration that config returns, in which REGISTRY stands
// for the registry's address, until the test ends. A pullgate.yaml that config
// has put there itself is left as it is.
func Start(t *testing.T, config func(r *Rig) string) *Rig {
	t.Helper()
	addr, key := Registry(t)
	r := &Rig{Dir: t.TempDir(), Key: key, Hangup: make(chan os.Signal, 1)}
	for _, a := range []*string{&r.Gate, &r.Admin} {
		*a = FreeAddr(t)
	}

	r.Config = strings.NewReplacer("REGISTRY", addr).Replace(config(r))
	file := filepath.Join(r.Dir, "pullgate.yaml")
	if _, err := os.Lstat(file); err != nil {
		Write(t, r.Dir, "pullgate.yaml", r.Config)
	}
	sdk, err := telemetry.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l, problems := server.Load(file, os.Environ(), sdk)
	if len(problems) > 0 {
		t.Fatal(problems)
	}

	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, l, &r.Log, r.Hangup) }()
	if err := demo.WaitFor(ctx, "http://"+r.Gate+"/v2/", served); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Errorf("serve ended with %v", err)
		}
	})
	return r
}

// Registry starts a registry with the demo's images, and returns its address and
// the public key, as PEM, of the one that signed them.
func Registry(t *testing.T) (addr, key string) {
	t.Helper()
	reg := httptest.NewServer(
		registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)),
	)
	t.Cleanup(reg.Close)

	private, key := KeyPair(t)
	addr = strings.TrimPrefix(reg.URL, "http://")
	if _, err := demo.PushImages(t.Context(), addr, private); err != nil {
		t.Fatal(err)
	}
	return addr, key
}

// KeyPair makes a key to sign with, and its public half as PEM.
func KeyPair(t *testing.T) (private *ecdsa.PrivateKey, public string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}

	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return private, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// FreeAddr is an address to listen on.
func FreeAddr(t *testing.T) string {
	t.Helper()
	addr, err := demo.FreeAddr(t.Context(), "0")
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// Base is a configuration without its policies.
func (r *Rig) Base() string {
	return fmt.Sprintf(
		"listen: %s\nadmin: {listen: %q}\ndrain: 2s\nupstreams: [{host: demo.example, url: \"http://REGISTRY\"}]\n",
		r.Gate,
		r.Admin,
	)
}

// Keyed is Base with the policy SignedByKey and its key.
func (r *Rig) Keyed(t *testing.T) string {
	t.Helper()
	Write(t, r.Dir, "key.pub", r.Key)
	return r.Base() + SignedByKey
}

// Pull asks the gate for a path below demo.example and returns the status.
func (r *Rig) Pull(t *testing.T, what string) int {
	t.Helper()
	status, _ := Get(t, "http://"+r.Gate+"/v2/demo.example/"+what)
	return status
}

// Until waits until a pull is answered with a status. A reload takes effect when
// the files have settled.
func (r *Rig) Until(t *testing.T, what string, want int) {
	t.Helper()
	for range patience / askEvery {
		if r.Pull(t, what) == want {
			return
		}
		time.Sleep(askEvery)
	}
	_, ready := Get(t, "http://"+r.Admin+"/readyz")
	t.Fatalf("%s is not answered %d within %s; readyz says %q", what, want, patience, ready)
}

// UntilReady waits until /readyz says something.
func (r *Rig) UntilReady(t *testing.T, want string) {
	t.Helper()
	r.untilAdmin(t, "/readyz", want)
}

// UntilMetric waits until the metrics name something.
func (r *Rig) UntilMetric(t *testing.T, want string) {
	t.Helper()
	r.untilAdmin(t, "/metrics", want)
}

func (r *Rig) untilAdmin(t *testing.T, path, want string) {
	t.Helper()
	text := ""
	for range patience / askEvery {
		if _, text = Get(t, "http://"+r.Admin+path); strings.Contains(text, want) {
			return
		}
		time.Sleep(askEvery)
	}
	t.Fatalf("%s does not say %q within %s but %q", path, want, patience, text)
}

// UntilLogged waits until the gate's log says something.
func (r *Rig) UntilLogged(t *testing.T, want string) {
	t.Helper()
	for range patience / askEvery {
		if r.Log.Say(want) {
			return
		}
		time.Sleep(askEvery)
	}
	t.Fatalf("the log does not say %q within %s", want, patience)
}

// Get asks for a URL.
func Get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return Do(t, req)
}

// Do sends a request and reads its answer.
func Do(t *testing.T, req *http.Request) (status int, body string) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(all)
}

// Write writes a file and returns its name.
func Write(t *testing.T, dir, name, text string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Replace writes a file beside an old one and renames it, as an editor does.
func Replace(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// Between is what stands in s between two texts.
func Between(s, before, after string) string {
	_, s, _ = strings.Cut(s, before)
	s, _, _ = strings.Cut(s, after)
	return s
}
