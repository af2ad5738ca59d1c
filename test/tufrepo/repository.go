// Package tufrepo makes TUF repositories with one target, and a mirror for each
// that can be made to fail. Only tests import it.
package tufrepo

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
)

// Repository is a TUF repository on disk with one target, and a web server
// for it that can be made to fail.
type Repository struct {
	Dir      string // its files
	Root     []byte // root.json to begin with
	URL      string // of the mirror
	Requests atomic.Int64

	keys   map[string]ed25519.PrivateKey
	answer atomic.Pointer[http.HandlerFunc] // instead of the files
}

// New makes one, valid for an hour, whose target trusted_root.json is target.
func New(t *testing.T, target []byte) *Repository {
	t.Helper()
	r := &Repository{Dir: t.TempDir(), keys: map[string]ed25519.PrivateKey{}}
	for _, role := range []string{"root", "targets", "snapshot", "timestamp"} {
		_, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		r.keys[role] = key
	}
	r.Root = r.Publish(t, 1, target, time.Now().Add(time.Hour))
	files := http.FileServer(http.Dir(r.Dir))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.Requests.Add(1)
		if h := r.answer.Load(); h != nil {
			(*h)(w, q)
			return
		}
		files.ServeHTTP(w, q)
	}))
	t.Cleanup(server.Close)
	r.URL = server.URL
	return r
}

// Publish writes a whole version of the repository and returns its root.
func (r *Repository) Publish(t *testing.T, version int64, target []byte, expires time.Time) []byte {
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
		must(os.MkdirAll(filepath.Dir(filepath.Join(r.Dir, name)), 0o755))
		must(os.WriteFile(filepath.Join(r.Dir, name), b, 0o644))
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

// Fail makes the mirror answer h; nil makes it whole again.
func (r *Repository) Fail(h http.HandlerFunc) {
	if h == nil {
		r.answer.Store(nil)
		return
	}
	r.answer.Store(&h)
}

// Forge replaces every key, as somebody else's repository would have.
func (r *Repository) Forge(t *testing.T) {
	t.Helper()
	for role := range r.keys {
		_, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		r.keys[role] = key
	}
}
