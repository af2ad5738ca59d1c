package soak

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/hostile"
)

const (
	repositories = 50
	tagsEach     = 10 // images of a repository
)

// object is a manifest or a blob of one repository.
type object struct {
	repo    string
	digest  digest.Digest
	what    string // for reports
	blob    bool
	signers string    // by letter; C is a stranger's
	parents []*object // manifests that list it
	parts   []*object // what it lists
	body    []byte
	sigTag  bool         // its signatures are under the .sig tag
	served  atomic.Int64 // when somebody first got it as a manifest, in nanoseconds since epoch; 0: nobody yet
}

var epoch = time.Now().Add(-time.Second)

func (o *object) servedBefore(t time.Time) bool {
	at := o.served.Load()
	return at != 0 && epoch.Add(time.Duration(at)).Before(t)
}

func (o *object) wasServed() { o.served.CompareAndSwap(0, int64(time.Since(epoch))) }

func (o *object) String() string { return o.what + " " + o.repo + "@" + o.digest.String() }

// image is what a tag stands for.
type image struct {
	*object
	tag string
}

// world is a registry and everything in it.
type world struct {
	registry *hostile.Registry
	server   *httptest.Server
	conns    atomic.Int64
	keys     map[string]*ecdsa.PrivateKey
	images   []image
	moving   [][2]image         // repositories whose tag "latest" means one or the other
	objects  map[string]*object // by repository@digest
}

// newWorld fills a registry with images of every kind: whole numbers of
// repositories, in which signed and unsigned ones share a layer.
func newWorld(t *testing.T, repos int) *world {
	t.Helper()
	w := &world{registry: hostile.New(), keys: map[string]*ecdsa.PrivateKey{}, objects: map[string]*object{}}
	for _, letter := range []string{"A", "B", "C"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		w.keys[letter] = key
	}
	for r := range repos {
		w.fill(fmt.Sprintf("soak/r%02d", r))
	}
	var asked atomic.Int64
	w.server = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		if asked.Add(1)%64 == 0 {
			w.registry.Forget() // nobody reads its log here, and it grows
		}
		w.registry.ServeHTTP(rw, req)
	}))
	w.server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			w.conns.Add(1)
		case http.StateClosed:
			w.conns.Add(-1)
		}
	}
	w.server.Start()
	t.Cleanup(func() {
		w.registry.Close()
		w.server.CloseClientConnections()
		w.server.Close()
	})
	return w
}

// open is how many connections the registry has.
func (w *world) open() int { return int(w.conns.Load()) }

func (w *world) fill(repo string) {
	base := []byte("base layer of " + repo + rand.Text())
	single := func(tag, what string, layerBytes int, signers string) *object {
		own := bytes.Repeat([]byte(rand.Text()), 1+layerBytes/26)
		i := w.registry.PushImage(repo, tag, base, own)
		o := w.add(&object{repo: repo, digest: i.Digest, what: what, body: i.Manifest})
		for _, d := range append(i.Layers, i.Config) {
			w.list(o, w.add(&object{
				repo:   repo,
				digest: d,
				what:   "blob of " + what,
				blob:   true,
				body:   w.registry.Blob(repo, d),
			}))
		}
		w.sign(o, signers)
		return o
	}
	index := func(tag, what, signers string, children ...*object) *object {
		var digests []digest.Digest
		for _, c := range children {
			digests = append(digests, c.digest)
		}
		d := w.registry.PushIndex(repo, tag, digests...)
		o := w.add(&object{repo: repo, digest: d, what: what, body: w.registry.Manifest(repo, d)})
		for _, c := range children {
			w.list(o, c)
		}
		w.sign(o, signers)
		return o
	}
	shared := single("", "child of a signed and of an unsigned index", 3000, "")
	for n, push := range []func(tag string) *object{
		func(tag string) *object { return single(tag, "image signed by A", 2000, "A") },
		func(tag string) *object {
			return index(tag, "index signed by A", "A", single("", "child of an index signed by A", 2000, ""), shared)
		},
		func(tag string) *object { return single(tag, "unsigned image", 2000, "") },
		func(tag string) *object {
			return index(tag, "unsigned index", "", single("", "child of an unsigned index", 2000, ""), shared)
		},
		func(tag string) *object { return single(tag, "image signed by B", 2000, "B") },
		func(tag string) *object {
			return index(tag, "index signed by A and B", "AB",
				single("", "child of an index signed by A and B", 2000, ""),
				single("", "other child of an index signed by A and B", 2000, ""))
		},
		func(tag string) *object {
			o := single(tag, "image signed by A as referrer", 2000, "")
			w.registry.Attach(repo, o.digest, w.keys["A"])
			o.signers = "A"
			return o
		},
		func(tag string) *object {
			return index(tag, "big index signed by A", "A",
				single("", "big child of an index signed by A", 200_000, ""),
				single("", "other child of a big index signed by A", 2000, ""))
		},
		func(tag string) *object { return single(tag, "image signed by a stranger", 2000, "C") },
		func(tag string) *object {
			return index(tag, "unsigned index of a signed child", "",
				single("", "signed child of an unsigned index", 2000, "A"),
				single("", "unsigned sibling of a signed child", 2000, ""))
		},
	} {
		tag := fmt.Sprintf("v%d", n)
		w.images = append(w.images, image{push(tag), tag})
	}
	own := w.images[len(w.images)-tagsEach:]
	w.moving = append(w.moving, [2]image{{own[0].object, "latest"}, {own[2].object, "latest"}})
	w.move(own[0])
}

// move points "latest" at i.
func (w *world) move(i image) {
	w.registry.PushRaw(i.repo, "latest", hostile.ImageType, i.body)
}

// add keeps o, unless its repository has the same already.
func (w *world) add(o *object) *object {
	key := o.repo + "@" + o.digest.String()
	if known := w.objects[key]; known != nil {
		return known
	}
	w.objects[key] = o
	return o
}

func (w *world) list(parent, part *object) {
	parent.parts = append(parent.parts, part)
	part.parents = append(part.parents, parent)
}

func (w *world) sign(o *object, signers string) {
	o.signers = signers
	if signers == "" {
		return
	}
	payload := hostile.Payload(o.repo, o.digest)
	a := hostile.Artifact{ConfigType: hostile.ConfigType}
	var layers []digest.Digest
	for _, letter := range signers {
		layers = append(layers, digest.FromBytes(payload))
		a.Layers = append(a.Layers, hostile.SignatureLayer(payload, w.keys[string(letter)]))
	}
	a.Config = hostile.SignatureConfig(layers...)
	d := w.registry.PushArtifact(o.repo, hostile.SignatureTag(o.digest), a)
	o.sigTag = true
	// A signature passes for what it is, whoever may sign.
	w.add(&object{
		repo:    o.repo,
		digest:  d,
		what:    "signature of " + o.what,
		signers: "AB",
		body:    w.registry.Manifest(o.repo, d),
	})
}

// public is a key as a policy's file holds it.
func (w *world) public(t *testing.T, letter string) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(w.keys[letter].Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}
