package verify

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/verify/oci"
)

// annotated is an image whose layers have that many annotations, and whose
// labels say that it is a signature artifact.
func annotated(seed, layers, annotations int) []byte {
	var notes, b strings.Builder
	for i := range annotations {
		if i > 0 {
			notes.WriteByte(',')
		}
		fmt.Fprintf(&notes, `"%x":""`, i)
	}

	fmt.Fprintf(&b, `{"schemaVersion":2,"seed":"%d","mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":2},`,
		seed, ociImage, "application/vnd.oci.empty.v1+json", digest.FromString("{}"))
	b.WriteString(`"layers":[`)
	for i := range layers {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"mediaType":%q,"digest":%q,"size":2,"annotations":{%s}}`,
			"application/vnd.dsse.envelope.v1+json", digest.FromString(fmt.Sprint(seed, i)), notes.String())
	}
	b.WriteString("]}")
	return []byte(b.String())
}

// bare is a manifest of nothing but digests.
func bare(seed, entries int, algorithm digest.Algorithm) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `{"schemaVersion":2,"seed":"%d","mediaType":%q,"manifests":[`, seed, ociIndex)
	for i := range entries {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"digest":%q}`, algorithm.FromString(fmt.Sprint(seed, i)))
	}
	b.WriteString("]}")
	return []byte(b.String())
}

// manifests.maxBytes bounds what manifests take in memory, whatever they are
// made of.
func TestManifestMemory(t *testing.T) {
	const n = 5
	for name, build := range map[string]func(seed int) []byte{
		"few annotations":        func(seed int) []byte { return annotated(seed, 2000, 1) },
		"annotations of layers":  func(seed int) []byte { return annotated(seed, 300, 90) },
		"annotations of a layer": func(seed int) []byte { return annotated(seed, 1, 30_000) },
		"children":               func(seed int) []byte { return bare(seed, 2000, digest.SHA256) },
		"children by sha512":     func(seed int) []byte { return bare(seed, 2000, digest.SHA512) },
		"one child":              func(seed int) []byte { return bare(seed, 1, digest.SHA256) },
	} {
		t.Run(name, func(t *testing.T) {
			bodies := make([][]byte, n)
			for i := range bodies {
				bodies[i] = build(i)
			}
			kept := make([]*cachedManifest, n)
			before := heap()

			counted := int64(0)
			for i, body := range bodies {
				body = append([]byte(nil), body...)
				s, err := oci.ParseManifest(body, "", 2000)
				if err != nil {
					t.Fatal(err)
				}
				m := oci.Manifest{Bytes: body, MediaType: s.MediaType, Digest: digest.FromBytes(body)}
				kept[i] = newCachedManifest(m, s)
				counted += kept[i].size()
			}

			held := heap() - before
			if held > counted+counted/10+64<<10 {
				t.Errorf("%d bytes are held, %d are counted", held, counted)
			}
			if counted > 3*held+n*cachedOverhead {
				t.Errorf("%d bytes are counted, %d are held", counted, held)
			}
			runtime.KeepAlive(kept)
			runtime.KeepAlive(bodies)
		})
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestClosedMemory: work that was given up may end after the memory is closed. The
// race detector sees what would then meet a closed channel.
func TestClosedMemory(t *testing.T) {
	t.Parallel()
	m, err := newMemory[int]("a cache", 100, 10)
	if err != nil {
		t.Fatal(err)
	}

	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			for range 200 {
				m.Set(fmt.Sprint(i), i, 1)
			}
		})
	}
	m.Close()
	all.Wait()
}
