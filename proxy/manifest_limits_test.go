package proxy_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/test/hostile"
)

// layersOf is an image manifest whose layers are {} and n times more.
func layersOf(more string, n int) []byte {
	return []byte(`{"schemaVersion":2,"mediaType":"` + hostile.ImageType + `","config":` + limitsFiller +
		`,"layers":[{}` + strings.Repeat(more, n) + "]}")
}

// CVE-2024-29903: limits.manifestBytes and limits.descriptors hold to the byte
// and to the part.
func TestManifestLimits(t *testing.T) {
	r, f, end := siege(t, patient)
	defer end()
	q := quiet{patience, 64 << 20}
	for i, c := range []struct {
		name   string
		body   []byte
		status int
		code   string
	}{
		{"4 MiB", padded(4 << 20), 403, "DENIED"},
		{"4 MiB + 1", padded(4<<20 + 1), 502, "UNAVAILABLE"},
		{"2000 layers", imageWith(2000, ""), 403, "DENIED"},
		{"2001 layers", imageWith(2001, ""), 400, "MANIFEST_INVALID"},
		{"2001 manifests", indexWith(2001, ""), 400, "MANIFEST_INVALID"},
		{"100,000 small layers", layersOf(`,{"size":1}`, 100_000), 400, "MANIFEST_INVALID"},
		{"a million empty layers", layersOf(`,{}`, 1_000_000), 400, "MANIFEST_INVALID"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for kind, lie := range map[string]http.HandlerFunc{
				"length": says(hostile.ImageType, c.body),
				"chunked": func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", hostile.ImageType)
					_ = http.NewResponseController(w).Flush()
					_, _ = w.Write(c.body)
				},
			} {
				if bytes.Contains(c.body[:100], []byte(hostile.IndexType)) {
					lie = says(hostile.IndexType, c.body)
				}
				tag := fmt.Sprint(kind, i)
				f.on("manifests/"+tag, lie)
				q.get(t, r, manifests("prod/app", tag)).refused(t, c.status, c.code)
			}
		})
	}
	t.Run("4 MiB, signed", func(t *testing.T) {
		body := bytes.Replace(padded(4<<20), []byte("xx"), []byte("yx"), 1)
		d := r.reg.PushRaw("prod/app", "largest", hostile.ImageType, body)
		r.reg.Sign("prod/app", d, r.key)
		q.get(t, r, manifests("prod/app", "largest")).served(t, body)
	})
	t.Run("2000 layers, signed", func(t *testing.T) {
		body := imageWith(2000, `,"annotations":{}`)
		d := r.reg.PushRaw("prod/app", "most", hostile.ImageType, body)
		r.reg.Sign("prod/app", d, r.key)
		r.get(manifests("prod/app", "most")).served(t, body)
	})
}
