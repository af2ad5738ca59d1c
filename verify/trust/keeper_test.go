package trust

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/test/tufrepo"
)

// another is a good trusted root that is not publicGood.
func another(t *testing.T) []byte {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(publicGood, &v); err != nil {
		t.Fatal(err)
	}
	delete(v, "timestampAuthorities")
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func keeper(t *testing.T, dir string) (*Keeper, *logs) {
	t.Helper()
	l := &logs{}
	k, err := New(Config{Dir: dir, Log: slog.New(slog.NewTextHandler(l, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k, l
}

// fingerprint is that of the root "corp" as the keeper has it; empty: missing.
func fingerprint(t *testing.T, k *Keeper, set *policy.Set) string {
	t.Helper()
	trust, err := k.Use(set)
	if err != nil {
		t.Fatal(err)
	}
	if r := trust.Roots["corp"]; r != nil {
		return r.Fingerprint()
	}
	return ""
}

// again asks every source in use, whatever its time.
func again(t *testing.T, k *Keeper) error {
	t.Helper()
	var failed error
	for _, s := range k.due(func(*source) bool { return true }) {
		if err := k.refresh(t.Context(), s); err != nil {
			failed = err
		}
	}
	return failed
}

func isChanged(k *Keeper) bool {
	select {
	case <-k.Changed():
		return true
	default:
		return false
	}
}

func TestRootLifecycle(t *testing.T) {
	t.Parallel()
	r := tufrepo.New(t, publicGood)
	set, dir := policies(t, r), t.TempDir()
	k, _ := keeper(t, dir)
	if fingerprint(t, k, set) != "" || r.Requests.Load() != 0 {
		t.Fatal("the mirror was asked by Use, which a reload waits for")
	}
	if err := k.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := fingerprint(t, k, set)
	if first == "" || !isChanged(k) {
		t.Fatal("not loaded, or Changed was not sent to")
	}
	asked := r.Requests.Load()
	if err := k.Fill(t.Context()); err != nil || r.Requests.Load() != asked {
		t.Errorf("what is there was asked for again: %v", err)
	}
	if err := again(t, k); err != nil || isChanged(k) {
		t.Errorf("an unchanged root counts as changed (%v)", err)
	}
	r.Publish(t, 2, another(t), time.Now().Add(time.Hour))
	if err := again(t, k); err != nil || !isChanged(k) {
		t.Fatalf("the new root was not noticed: %v", err)
	}
	second := fingerprint(t, k, set)
	if second == first {
		t.Error("the new root is not in use")
	}

	// The next start, with the mirror gone.
	r.Fail(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	next, log := keeper(t, dir)
	if got := fingerprint(t, next, set); got != second {
		t.Errorf("started with %q, want what was kept, %q", got, second)
	}
	if err := again(t, next); err == nil || isChanged(next) || fingerprint(t, next, set) != second {
		t.Errorf("a mirror that is down changed something: %v", err)
	}
	if !strings.Contains(log.String(), "the previous version stays in use") {
		t.Errorf("nothing is said of it: %s", log)
	}
}

// TestLyingMirror: whatever a mirror answers, the last good root stays.
func TestLyingMirror(t *testing.T) {
	t.Parallel()
	for name, lie := range map[string]func(t *testing.T, r *tufrepo.Repository){
		"rolled back": func(t *testing.T, r *tufrepo.Repository) {
			r.Publish(t, 1, another(t), time.Now().Add(time.Hour))
		},
		"expired": func(t *testing.T, r *tufrepo.Repository) {
			r.Publish(t, 3, another(t), time.Now().Add(-time.Minute))
		},
		"signed by others": func(t *testing.T, r *tufrepo.Repository) {
			r.Forge(t)
			r.Publish(t, 3, another(t), time.Now().Add(time.Hour))
		},
		"a target that is no trusted root": func(t *testing.T, r *tufrepo.Repository) {
			r.Publish(t, 3, []byte(`{"hello":1}`), time.Now().Add(time.Hour))
		},
		"a target that is no JSON": func(t *testing.T, r *tufrepo.Repository) {
			r.Publish(t, 3, []byte("<html>"), time.Now().Add(time.Hour))
		},
		"an empty trusted root": func(t *testing.T, r *tufrepo.Repository) {
			empty := `{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`
			r.Publish(t, 3, []byte(empty), time.Now().Add(time.Hour))
		},
		"a target that was exchanged": func(t *testing.T, r *tufrepo.Repository) {
			r.Publish(t, 3, another(t), time.Now().Add(time.Hour))
			found, err := filepath.Glob(filepath.Join(r.Dir, "targets", "*"))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range found {
				if err := os.WriteFile(f, publicGood[:len(publicGood)-2], 0o600); err != nil {
					t.Fatal(err)
				}
			}
		},
		"an endless answer": func(_ *testing.T, r *tufrepo.Repository) {
			r.Fail(func(w http.ResponseWriter, q *http.Request) {
				for q.Context().Err() == nil {
					if _, err := w.Write(make([]byte, 1<<20)); err != nil {
						return
					}
				}
			})
		},
		"not found": func(_ *testing.T, r *tufrepo.Repository) { r.Fail(http.NotFound) },
		"a redirect to itself": func(_ *testing.T, r *tufrepo.Repository) {
			r.Fail(func(w http.ResponseWriter, q *http.Request) { http.Redirect(w, q, q.URL.Path, http.StatusFound) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := tufrepo.New(t, publicGood)
			r.Publish(t, 2, publicGood, time.Now().Add(time.Hour))
			set := policies(t, r)
			k, log := keeper(t, t.TempDir())
			fingerprint(t, k, set)
			if err := k.Fill(t.Context()); err != nil {
				t.Fatal(err)
			}
			good := fingerprint(t, k, set)
			isChanged(k)
			lie(t, r)
			err := again(t, k)
			if err == nil || isChanged(k) || fingerprint(t, k, set) != good {
				t.Errorf("taken in: %v", err)
			}
			if !strings.Contains(log.String(), "a refresh failed") {
				t.Errorf("nothing is said of it: %s", log)
			}
		})
	}
}

func TestStallingMirror(t *testing.T) {
	t.Parallel()
	r := tufrepo.New(t, publicGood)
	stalled := make(chan struct{})
	r.Fail(func(_ http.ResponseWriter, q *http.Request) {
		close(stalled)
		<-q.Context().Done()
	})
	set := policies(t, r)
	k, _ := keeper(t, t.TempDir())
	fingerprint(t, k, set)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- k.Run(ctx) }()
	<-stalled
	if got := fingerprint(t, k, set); got != "" { // returns while the mirror stalls
		t.Errorf("loaded %q", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	r := tufrepo.New(t, publicGood)
	set := policies(t, r)
	k, _ := keeper(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- k.Run(ctx) }()
	fingerprint(t, k, set)
	<-k.Changed()
	if fingerprint(t, k, set) == "" {
		t.Error("not loaded")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	// What no policy uses any more is not asked for.
	if _, err := k.Use(load(t, t.TempDir(), "policies: []")); err != nil {
		t.Fatal(err)
	}
	asked := r.Requests.Load()
	if err := again(t, k); err != nil || r.Requests.Load() != asked {
		t.Errorf("a root that no policy uses is refreshed: %v", err)
	}
}

func TestRepositoryFolder(t *testing.T) {
	t.Parallel()
	r := tufrepo.New(t, publicGood)
	set := policiesFrom(t, r, "directory: "+r.Dir)
	k, _ := keeper(t, t.TempDir())
	fingerprint(t, k, set)
	if err := k.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if fingerprint(t, k, set) == "" || r.Requests.Load() != 0 {
		t.Error("not loaded from the folder alone")
	}
	if err := os.Symlink("/etc/hostname", filepath.Join(r.Dir, "9.root.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := (folder{openRoot(t, r.Dir)}).DownloadFile(repository+"/9.root.json", 100, 0); err == nil {
		t.Error("a link out of the folder is followed")
	}
	if _, err := (folder{openRoot(t, r.Dir)}).DownloadFile(repository+"/../x", 100, 0); err == nil {
		t.Error("a path out of the folder is followed")
	}
}

func openRoot(t *testing.T, dir string) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root
}

// TestBuiltInRoots: the public instance's root is there at once; GitHub's has to be
// fetched, and is missing until then.
func TestBuiltInRoots(t *testing.T) {
	t.Parallel()
	set := load(t, t.TempDir(), `
policies:
  - name: p
    images: ["ghcr.io/acme/**"]
    authorities: [{github: {owner: acme}}]
`)
	k, _ := keeper(t, "")
	trust, err := k.Use(set)
	if err != nil {
		t.Fatal(err)
	}
	if trust.Roots[policy.PublicGood] == nil || trust.Roots[policy.GitHubRoot] != nil {
		t.Errorf("begins with %v", trust.Roots)
	}
	for _, name := range []string{policy.PublicGood, policy.GitHubRoot} {
		d, _ := definition(policy.TrustRoot{Name: name})
		if d.TUF == nil || len(d.TUF.Root) == 0 || !strings.HasPrefix(d.TUF.Mirror, "https://") {
			t.Errorf("%s: %+v", name, d)
		}
	}
	ages := k.ages()
	if ages[policy.GitHubRoot] != -1 || ages[policy.PublicGood] == -1 {
		t.Errorf("ages %v", ages)
	}
}

func TestRootFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "own.json"), another(t), 0o600); err != nil {
		t.Fatal(err)
	}
	set := load(t, dir, `
trustRoots: [{name: public-good, file: own.json}]
policies:
  - name: p
    images: ["reg.example/**"]
    authorities: [{keyless: {identities: [{issuer: "https://i.example", subject: a@b.example}]}}]
`)
	k, _ := keeper(t, "")
	trust, err := k.Use(set)
	if err != nil || len(k.sources) != 0 {
		t.Fatalf("%v, and %d sources that would be asked", err, len(k.sources))
	}
	if trust.Roots[policy.PublicGood] == nil {
		t.Error("the file is not in use")
	}
	if err := os.WriteFile(filepath.Join(dir, "own.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	set, problems := policy.Load(policy.Input{ConfigFile: "config.yaml", Dir: dir, Files: []string{"p.yaml"}})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if _, err := k.Use(set); err == nil || !strings.Contains(err.Error(), "p.yaml:2: trust root \"public-good\"") {
		t.Errorf("a file that is no trusted root: %v", err)
	}
}

// TestDamagedState: a saved file that is no root is not loaded.
func TestDamagedState(t *testing.T) {
	t.Parallel()
	r := tufrepo.New(t, publicGood)
	set, dir := policies(t, r), t.TempDir()
	k, _ := keeper(t, dir)
	fingerprint(t, k, set)
	if err := k.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, s := range k.sources {
		if err := os.WriteFile(filepath.Join(dir, s.id), []byte(`{"tlogs":[]}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	next, log := keeper(t, dir)
	if fingerprint(t, next, set) != "" || !strings.Contains(log.String(), "cannot be used") {
		t.Errorf("in use; log: %s", log)
	}
}

func TestFrozenKeeper(t *testing.T) {
	t.Parallel()
	r := tufrepo.New(t, publicGood)
	set, dir := policies(t, r), t.TempDir()
	k, err := New(Config{Dir: dir, Frozen: true})
	if err != nil {
		t.Fatal(err)
	}
	fingerprint(t, k, set)
	if err := k.Fill(t.Context()); err != nil || fingerprint(t, k, set) == "" {
		t.Fatalf("not loaded: %v", err)
	}
	if found, err := os.ReadDir(dir); err != nil || len(found) > 0 {
		t.Errorf("wrote %v (%v)", found, err)
	}
}

// vault is the part of Vault's transit engine that gives public keys.
func vault(t *testing.T) (*httptest.Server, *atomic.Pointer[ecdsa.PrivateKey], *atomic.Int64) {
	t.Helper()
	var key atomic.Pointer[ecdsa.PrivateKey]
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		asked.Add(1)
		k := key.Load()
		if k == nil || q.URL.Path != "/v1/transit/keys/app" {
			http.Error(w, `{"errors":["sealed"]}`, http.StatusServiceUnavailable)
			return
		}
		der, err := x509.MarshalPKIXPublicKey(k.Public())
		if err != nil {
			t.Error(err)
		}
		text := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
		_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{
			"name":           "app",
			"type":           "ecdsa-p256",
			"latest_version": 1,
			"keys":           map[string]any{"1": map[string]any{"public_key": text}},
		}})
	}))
	t.Cleanup(server.Close)
	return server, &key, &asked
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeyService(t *testing.T) {
	server, key, asked := vault(t)
	t.Setenv("VAULT_ADDR", server.URL)
	t.Setenv("VAULT_TOKEN", "token")
	t.Setenv("VAULT_MAX_RETRIES", "0")
	set := load(t, t.TempDir(), `
policies:
  - name: p
    images: ["reg.example/**"]
    authorities: [{key: hashivault://app}]
`)
	dir := t.TempDir()
	k, log := keeper(t, dir)
	trust, err := k.Use(set)
	if err != nil || len(trust.Keys) != 0 || asked.Load() != 0 {
		t.Fatalf("%v: keys %v, asked %d times", err, trust.Keys, asked.Load())
	}
	if err := k.Fill(t.Context()); err == nil { // sealed
		t.Fatal("no error of a sealed service")
	}
	if text := log.String(); !strings.Contains(text, "answered 503 until it is") ||
		strings.Contains(text, "stays in use") {
		t.Errorf("there was nothing to stay in use: %s", text)
	}
	id := func(k *Keeper) string {
		t.Helper()
		trust, err := k.Use(set)
		if err != nil {
			t.Fatal(err)
		}
		return trust.Keys["hashivault://app"].ID
	}
	first := newKey(t)
	key.Store(first)
	if err := k.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	was := id(k)
	if was == "" || !isChanged(k) {
		t.Fatal("not loaded")
	}
	key.Store(nil)
	if err := again(t, k); err == nil || id(k) != was || isChanged(k) {
		t.Errorf("an outage changed the key: %v", err)
	}
	next, _ := keeper(t, dir)
	if id(next) != was {
		t.Error("the key was not kept for the next start")
	}
	key.Store(newKey(t))
	if err := again(t, k); err != nil || id(k) == was || !isChanged(k) {
		t.Errorf("a rotated key was not noticed: %v", err)
	}
}

// TestUnknownKeyServices: the loader of key services would run a program named
// after any other scheme.
func TestUnknownKeyServices(t *testing.T) {
	dir := t.TempDir()
	mark := filepath.Join(dir, "it-ran")
	if err := os.WriteFile(
		filepath.Join(dir, "sigstore-kms-evil"),
		[]byte("#!/bin/sh\ntouch "+mark+"\n"),
		0o700,
	); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for _, reference := range []string{"evil://key", "AWSKMS://x", "fakekms://x", " awskms://x", ""} {
		if _, err := fetchKey(
			t.Context(),
			reference,
		); err == nil ||
			!strings.Contains(err.Error(), "no key service of that name") {
			t.Errorf("%q: %v", reference, err)
		}
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("a program was run")
	}
}

func TestBackOff(t *testing.T) {
	t.Parallel()
	r := tufrepo.New(t, publicGood)
	r.Fail(http.NotFound)
	k, _ := keeper(t, "")
	fingerprint(t, k, policies(t, r))
	var waits []time.Duration
	for range 12 {
		if again(t, k) == nil {
			t.Fatal("no error")
		}
		for _, s := range k.sources {
			waits = append(waits, time.Until(s.due).Round(time.Second))
		}
	}
	if waits[0] != firstBackOff || waits[1] != 2*firstBackOff || waits[11] != longestBackOff {
		t.Errorf("waits %v", waits)
	}
	r.Fail(nil)
	if err := again(t, k); err != nil {
		t.Fatal(err)
	}
	for _, s := range k.sources {
		if left := time.Until(s.due); s.failures != 0 || left < 11*time.Hour {
			t.Errorf("after a success: %d failures, again in %v", s.failures, left)
		}
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	reader := metric.NewManualReader()
	k, err := New(Config{Meter: metric.NewMeterProvider(metric.WithReader(reader))})
	if err != nil {
		t.Fatal(err)
	}
	r := tufrepo.New(t, publicGood)
	fingerprint(t, k, policies(t, r))
	if err := again(t, k); err != nil {
		t.Fatal(err)
	}
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			found[m.Name] = true
			if g, ok := m.Data.(metricdata.Gauge[float64]); ok &&
				(len(g.DataPoints) != 1 || g.DataPoints[0].Value < 0 || g.DataPoints[0].Value > 60) {
				t.Errorf("%s: %+v", m.Name, g.DataPoints)
			}
		}
	}
	if !found["pullgate.trust.age"] || !found["pullgate.trust.refreshes"] {
		t.Errorf("found %v", found)
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
}
