package trust

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/pullgate/pullgate/policy"
)

// tufRepository is a TUF repository on disk with one target, and a web server
// for it that can be made to fail.
type tufRepository struct {
	dir      string
	root     []byte
	keys     map[string]ed25519.PrivateKey
	server   *httptest.Server
	requests atomic.Int64
	answer   atomic.Pointer[http.HandlerFunc] // instead of the files
}

func newRepository(t *testing.T, target []byte) *tufRepository {
	t.Helper()
	r := &tufRepository{dir: t.TempDir(), keys: map[string]ed25519.PrivateKey{}}
	for _, role := range []string{"root", "targets", "snapshot", "timestamp"} {
		_, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		r.keys[role] = key
	}
	r.root = r.publish(t, 1, target, time.Now().Add(time.Hour))
	files := http.FileServer(http.Dir(r.dir))
	r.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.requests.Add(1)
		if h := r.answer.Load(); h != nil {
			(*h)(w, q)
			return
		}
		files.ServeHTTP(w, q)
	}))
	t.Cleanup(r.server.Close)
	return r
}

// publish writes a whole version of the repository and returns its root.
func (r *tufRepository) publish(t *testing.T, version int64, target []byte, expires time.Time) []byte {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	root := metadata.Root(expires)
	for role, key := range r.keys {
		public, err := metadata.KeyFromPublicKey(key.Public())
		must(err)
		must(root.Signed.AddKey(public, role))
	}
	targets, snapshot, timestamp := metadata.Targets(expires), metadata.Snapshot(expires), metadata.Timestamp(expires)
	targets.Signed.Version, snapshot.Signed.Version, timestamp.Signed.Version = version, version, version
	info, err := metadata.TargetFile().FromBytes("trusted_root.json", target, "sha256")
	must(err)
	targets.Signed.Targets["trusted_root.json"] = info
	snapshot.Signed.Meta["targets.json"] = metadata.MetaFile(version)
	timestamp.Signed.Meta["snapshot.json"] = metadata.MetaFile(version)
	signer := func(role string) signature.Signer {
		s, err := signature.LoadSigner(r.keys[role], crypto.Hash(0))
		must(err)
		return s
	}
	_, err1 := root.Sign(signer("root"))
	_, err2 := targets.Sign(signer("targets"))
	_, err3 := snapshot.Sign(signer("snapshot"))
	_, err4 := timestamp.Sign(signer("timestamp"))
	for _, err := range []error{err1, err2, err3, err4} {
		must(err)
	}
	write := func(name string, b []byte, err error) {
		t.Helper()
		must(err)
		must(os.MkdirAll(filepath.Dir(filepath.Join(r.dir, name)), 0o755))
		must(os.WriteFile(filepath.Join(r.dir, name), b, 0o644))
	}
	rootText, err := root.ToBytes(false)
	write("1.root.json", rootText, err)
	b, err := targets.ToBytes(false)
	write(fmt.Sprintf("%d.targets.json", version), b, err)
	b, err = snapshot.ToBytes(false)
	write(fmt.Sprintf("%d.snapshot.json", version), b, err)
	b, err = timestamp.ToBytes(false)
	write("timestamp.json", b, err)
	write(fmt.Sprintf("targets/%x.trusted_root.json", sha256.Sum256(target)), target, nil)
	return rootText
}

// fail makes the mirror answer h; nil makes it whole again.
func (r *tufRepository) fail(h http.HandlerFunc) {
	if h == nil {
		r.answer.Store(nil)
		return
	}
	r.answer.Store(&h)
}

// policies is a set whose one policy trusts an identity of the root.
func (r *tufRepository) policies(t *testing.T) *policy.Set {
	t.Helper()
	return r.policiesFrom(t, "mirror: "+r.server.URL)
}

func (r *tufRepository) policiesFrom(t *testing.T, where string) *policy.Set {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "root.json"), r.root, 0o600); err != nil {
		t.Fatal(err)
	}
	return load(t, dir, `
trustRoots:
  - {name: corp, tuf: {`+where+`, root: root.json}}
policies:
  - name: p
    images: ["reg.example/**"]
    authorities:
      - keyless: {trustRoots: [corp], identities: [{issuer: "https://issuer.example", subject: dev@acme.example}]}
`)
}

func load(t *testing.T, dir, text string) *policy.Set {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "p.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	set, problems := policy.Load(policy.Input{ConfigFile: "config.yaml", Dir: dir, Files: []string{"p.yaml"}})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return set
}
