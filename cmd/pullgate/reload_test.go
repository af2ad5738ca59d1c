package main

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/pullgate/pullgate/cmd/pullgate/demo"
	"github.com/pullgate/pullgate/cmd/pullgate/server"
	"github.com/pullgate/pullgate/cmd/pullgate/telemetry"
)

// rig is a gate before a registry with the demo's images, signed by key.
type rig struct {
	dir, gate, admin string
	key              string // PEM of the public key that signed
	config           string
	hup              chan os.Signal
	log              lines
}

func startRig(t *testing.T, config func(r *rig) string) *rig {
	t.Helper()
	reg := httptest.NewServer(
		registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)),
	)
	t.Cleanup(reg.Close)
	var private *ecdsa.PrivateKey
	r := &rig{dir: t.TempDir(), hup: make(chan os.Signal, 1)}
	private, r.key = publicKey(t)
	addr := strings.TrimPrefix(reg.URL, "http://")
	if _, err := demo.PushImages(t.Context(), addr, private, signDemo); err != nil {
		t.Fatal(err)
	}
	for _, a := range []*string{&r.gate, &r.admin} {
		var err error
		if *a, err = demo.FreeAddr(t.Context(), "0"); err != nil {
			t.Fatal(err)
		}
	}
	r.config = config(r)
	r.config = strings.NewReplacer("REGISTRY", addr).Replace(r.config)
	file := filepath.Join(r.dir, "pullgate.yaml")
	if _, err := os.Lstat(file); err != nil {
		writeIn(t, r.dir, "pullgate.yaml", r.config)
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
	go func() { served <- server.Serve(ctx, l, &r.log, r.hup) }()
	if err := demo.WaitFor(ctx, "http://"+r.gate+"/v2/", served); err != nil {
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

// base is a configuration without its policies.
func (r *rig) base() string {
	return fmt.Sprintf(
		"listen: %s\nadmin: {listen: %q}\ndrain: 2s\nupstreams: [{host: demo.example, url: \"http://REGISTRY\"}]\n",
		r.gate,
		r.admin,
	)
}

const signedByKey = "policies: [{name: keyed, images: [\"demo.example/**\"], authorities: [{name: k, key: key.pub}]}]\n"

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func (r *rig) pull(t *testing.T, what string) int {
	t.Helper()
	status, _ := get(t, "http://"+r.gate+"/v2/demo.example/"+what)
	return status
}

// until waits for a status; a reload takes effect when the files have settled.
func (r *rig) until(t *testing.T, what string, want int) {
	t.Helper()
	for range 600 {
		if r.pull(t, what) == want {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	_, ready := get(t, "http://"+r.admin+"/readyz")
	t.Fatalf("%s is not answered %d within 12 s; readyz says %q", what, want, ready)
}

func replace(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// A key file changed alone: what that key signed is refused at once, the
// manifest, the children it had let in, and their blobs.
func TestReloadRevokedKey(t *testing.T) {
	r := startRig(t, func(r *rig) string {
		writeIn(t, r.dir, "key.pub", r.key)
		return r.base() + signedByKey
	})
	status, index := get(t, "http://"+r.gate+"/v2/demo.example/multi/manifests/latest")
	if status != http.StatusOK {
		t.Fatalf("before: %d %s", status, index)
	}
	child := "multi/manifests/" + between(index, `"digest":"`, `"`)
	status, manifest := get(t, "http://"+r.gate+"/v2/demo.example/"+child)
	if status != http.StatusOK {
		t.Fatalf("child before: %d %s", status, manifest)
	}
	blob := "multi/blobs/" + between(manifest, `"digest":"`, `"`)
	if status := r.pull(t, blob); status != http.StatusOK {
		t.Fatalf("blob before: %d", status)
	}
	_, other := publicKey(t)
	replace(t, filepath.Join(r.dir, "key.pub"), other)
	r.until(t, "multi/manifests/latest", http.StatusForbidden)
	for _, what := range []string{child, blob} {
		if status := r.pull(t, what); status != http.StatusForbidden {
			t.Errorf("%s after: %d", what, status)
		}
	}
	replace(t, filepath.Join(r.dir, "key.pub"), r.key)
	r.until(t, blob, http.StatusOK)
}

func between(s, before, after string) string {
	_, s, _ = strings.Cut(s, before)
	s, _, _ = strings.Cut(s, after)
	return s
}

// An editor writes a new file and renames it; meanwhile pulls go on, and none
// of them sees anything but the old answer or the new one.
func TestReloadUnderLoad(t *testing.T) {
	r := startRig(t, func(r *rig) string {
		writeIn(t, r.dir, "key.pub", r.key)
		return r.base() + signedByKey
	})
	ctx, stop := context.WithCancel(t.Context())
	var asked atomic.Int64
	wrong := make(chan string, 4)
	for range 4 {
		go func() {
			for ctx.Err() == nil {
				req, err := http.NewRequestWithContext(
					ctx,
					http.MethodGet,
					"http://"+r.gate+"/v2/demo.example/signed/manifests/latest",
					nil,
				)
				if err != nil {
					wrong <- err.Error()
					return
				}
				resp, err := http.DefaultClient.Do(req)
				if ctx.Err() != nil {
					break
				}
				if err != nil || resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusForbidden {
					wrong <- fmt.Sprint(err, resp)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body) // only the status counts
				_ = resp.Body.Close()
				asked.Add(1)
			}
			wrong <- ""
		}()
	}
	denied := strings.Replace(r.config, "authorities: [{name: k, key: key.pub}]", "static: deny", 1)
	for range 3 {
		replace(t, filepath.Join(r.dir, "pullgate.yaml"), denied)
		r.until(t, "signed/manifests/latest", http.StatusForbidden)
		replace(t, filepath.Join(r.dir, "pullgate.yaml"), r.config)
		r.until(t, "signed/manifests/latest", http.StatusOK)
	}
	stop()
	for range 4 {
		if w := <-wrong; w != "" {
			t.Error(w)
		}
	}
	if asked.Load() < 20 {
		t.Errorf("only %d pulls: the test shows nothing", asked.Load())
	}
}

// A file that appears and matches a glob counts; one that disappears does not.
func TestReloadNewPolicyFile(t *testing.T) {
	r := startRig(t, func(r *rig) string {
		if err := os.Mkdir(filepath.Join(r.dir, "policies"), 0o700); err != nil {
			t.Fatal(err)
		}
		return r.base() + "policyFiles: [\"policies/*.yaml\"]\n"
	})
	if status := r.pull(t, "signed/manifests/latest"); status != http.StatusForbidden {
		t.Fatalf("without a policy: %d", status)
	}
	file := writeIn(
		t,
		filepath.Join(r.dir, "policies"),
		"a.yaml",
		"policies: [{name: open, images: [\"demo.example/signed\"], static: allow}]\n",
	)
	r.until(t, "signed/manifests/latest", http.StatusOK)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	r.until(t, "signed/manifests/latest", http.StatusForbidden)
}

// Kubernetes swaps the link ..data; the files themselves are links through it.
func TestReloadConfigMap(t *testing.T) {
	version := func(r *rig, name, config string) {
		if err := os.Mkdir(filepath.Join(r.dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		writeIn(t, filepath.Join(r.dir, name), "pullgate.yaml", config)
		if err := os.Symlink(name, filepath.Join(r.dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(r.dir, "..data_tmp"), filepath.Join(r.dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	const open = "policies: [{name: open, images: [\"demo.example/**\"], static: allow}]\n"
	r := startRig(t, func(r *rig) string { return r.base() })
	version(r, "..v1", r.config)
	if err := os.Remove(filepath.Join(r.dir, "pullgate.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("..data/pullgate.yaml", filepath.Join(r.dir, "pullgate.yaml")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond) // the link is in force
	if status := r.pull(t, "unsigned/manifests/latest"); status != http.StatusForbidden {
		t.Fatalf("before: %d", status)
	}
	version(r, "..v2", r.config+open)
	r.until(t, "unsigned/manifests/latest", http.StatusOK)
	version(r, "..v3", r.config)
	r.until(t, "unsigned/manifests/latest", http.StatusForbidden)
}

// A bad file leaves the old configuration in force, and says so.
func TestReloadBadFile(t *testing.T) {
	r := startRig(t, func(r *rig) string {
		writeIn(t, r.dir, "key.pub", r.key)
		return r.base() + signedByKey
	})
	file := filepath.Join(r.dir, "pullgate.yaml")
	// It names a key that is not there yet.
	replace(t, file, strings.Replace(r.config, "key.pub", "next.pub", 1))
	r.untilReady(t, "next.pub")
	if _, metrics := get(t, "http://"+r.admin+"/metrics"); !strings.Contains(metrics, "pullgate_config_refused 1") {
		t.Error("no metric says that the configuration is refused")
	}
	if status := r.pull(t, "signed/manifests/latest"); status != http.StatusOK {
		t.Errorf("the old configuration is not in force: %d", status)
	}
	// The key comes: the refused configuration is loaded without another change.
	_, other := publicKey(t)
	writeIn(t, r.dir, "next.pub", other)
	r.until(t, "signed/manifests/latest", http.StatusForbidden)
	if _, ready := get(t, "http://"+r.admin+"/readyz"); ready != "ok\n" {
		t.Errorf("readyz still says %q", ready)
	}
}

func (r *rig) untilReady(t *testing.T, want string) {
	t.Helper()
	ready := ""
	for range 600 {
		if _, ready = get(t, "http://"+r.admin+"/readyz"); strings.Contains(ready, want) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("readyz does not say %q but %q", want, ready)
}

// says waits until the metrics name something.
func (r *rig) says(t *testing.T, metric string) {
	t.Helper()
	for range 600 {
		if _, text := get(t, "http://"+r.admin+"/metrics"); strings.Contains(text, metric) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("no metric says %s", metric)
}

// TestMissingRoot: nothing is refused for want of a root, and the
// gate is ready all the same; a policy that does not need it decides as ever.
func TestMissingRoot(t *testing.T) {
	t.Parallel()
	r := startRig(t, func(r *rig) string {
		writeIn(t, r.dir, "key.pub", r.key)
		writeIn(t, r.dir, "root.json", "{}")
		return r.base() + `trustRoots: [{name: corp, tuf: {mirror: "http://127.0.0.1:1", root: root.json}}]
policies:
  - name: logged
    images: ["demo.example/multi"]
    authorities: [{key: key.pub, transparencyLog: require, trustRoot: corp}]
  - name: both
    images: ["demo.example/**"]
    authorities:
      - {key: key.pub}
      - {keyless: {trustRoots: [corp], identities: [{issuer: i, subject: s}]}}
`
	})
	if got := r.pull(t, "signed/manifests/latest"); got != http.StatusOK {
		t.Errorf("signed with the key: %d", got)
	}
	if got := r.pull(t, "multi/manifests/latest"); got != http.StatusServiceUnavailable {
		t.Errorf("what the missing root may have admitted: %d, want 503", got)
	}
	if got := r.pull(t, "unsigned/manifests/latest"); got != http.StatusForbidden {
		t.Errorf("what no root could admit: %d, want 403", got)
	}
	if _, ready := get(t, "http://"+r.admin+"/readyz"); ready != "ok\n" {
		t.Errorf("readyz says %q", ready)
	}
	r.says(t, `pullgate_trust_age_seconds{name="corp"`)
}

func TestReloadOnHangup(t *testing.T) {
	r := startRig(t, func(r *rig) string {
		writeIn(t, r.dir, "key.pub", r.key)
		return r.base() + signedByKey
	})
	r.hup <- syscall.SIGHUP
	for range 100 {
		if _, metrics := get(
			t,
			"http://"+r.admin+"/metrics",
		); strings.Contains(
			metrics,
			`pullgate_config_reloads_total{result="done"} 1`,
		) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("a hangup loads nothing")
}

// A file that somebody writes to all the time, in the folder of the key, does
// not put the reload off.
func TestReloadBusyFile(t *testing.T) {
	r := startRig(t, func(r *rig) string {
		writeIn(t, r.dir, "key.pub", r.key)
		return r.base() + signedByKey
	})
	if status := r.pull(t, "signed/manifests/latest"); status != http.StatusOK {
		t.Fatalf("before: %d", status)
	}
	busy, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(busy)
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				_ = os.WriteFile(filepath.Join(r.dir, "gate.log"), fmt.Append(nil, n), 0o600) // only its noise counts
			}
		}
	}()
	_, other := publicKey(t)
	replace(t, filepath.Join(r.dir, "key.pub"), other)
	r.until(t, "signed/manifests/latest", http.StatusForbidden)
	close(stop)
	<-busy
}

// A policy folder that is gone is a mistake, not an empty list of denials.
func TestReloadMissingFolder(t *testing.T) {
	r := startRig(t, func(r *rig) string {
		if err := os.Mkdir(filepath.Join(r.dir, "deny"), 0o700); err != nil {
			t.Fatal(err)
		}
		writeIn(
			t,
			filepath.Join(r.dir, "deny"),
			"a.yaml",
			"policies: [{name: no, images: [\"demo.example/unsigned\"], static: deny}]\n",
		)
		writeIn(t, r.dir, "allow.yaml", "policies: [{name: yes, images: [\"demo.example/**\"], static: allow}]\n")
		return r.base() + "policyFiles: [\"deny/*.yaml\", allow.yaml]\n"
	})
	if err := os.Rename(filepath.Join(r.dir, "deny"), filepath.Join(r.dir, "gone")); err != nil {
		t.Fatal(err)
	}
	r.untilReady(t, "deny/*.yaml")
	if status := r.pull(t, "unsigned/manifests/latest"); status != http.StatusForbidden {
		t.Errorf("what was denied is answered %d", status)
	}
}
