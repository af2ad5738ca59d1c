package postgres_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/test/pgtest"
	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/facts/postgres"
	"github.com/pullgate/pullgate/verify/oci"
)

// BenchmarkImages writes images of two platforms with a config and six layers each,
// two of them shared, and reads their parts: what an image costs in time, rows and
// bytes. PULLGATE_IMAGES is how many images the database has before.
func BenchmarkImages(b *testing.B) {
	server := pgtest.Start(b)
	s, err := postgres.Open(postgres.Config{URL: server.URL()}, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	if err := s.Ready(b.Context()); err != nil {
		b.Fatal(err)
	}
	others := fill(b, server)
	ctx, cancel := context.WithTimeout(b.Context(), 10*time.Minute)
	defer cancel()

	repo := policy.Repository{Host: "r.example", Path: "bench"}
	shared := []digest.Digest{digest.FromString("base 1"), digest.FromString("base 2")}

	var writes, reads []time.Duration
	for n := 0; b.Loop(); n++ {
		for _, f := range benchImage(repo, n, shared) {
			start := time.Now()
			if _, err := s.Learn(ctx, f); err != nil {
				b.Fatal(err)
			}
			writes = append(writes, time.Since(start))
			start = time.Now()
			part := append(slices.Clone(f.Parts.Manifests), f.Parts.Blobs...)[0]
			kind := facts.PartBlob
			if f.Parts.Kind == oci.Index {
				kind = facts.PartManifest
			}
			if list, err := s.Parents(ctx, repo, kind, part); err != nil || len(list) == 0 {
				b.Fatal(list, err)
			}
			reads = append(reads, time.Since(start))
		}
	}

	images := float64(b.N + others)
	server.SQL(b, "VACUUM ANALYZE")
	bytes := server.Value(
		b,
		"SELECT pg_total_relation_size('pullgate_lists') + pg_total_relation_size('pullgate_records')",
	)
	rows := server.Value(b, "SELECT (SELECT count(*) FROM pullgate_lists) + (SELECT count(*) FROM pullgate_records)")
	b.ReportMetric(float64(others), "others")
	b.ReportMetric(float64(bytes)/images, "B/image")
	b.ReportMetric(float64(rows)/images, "rows/image")
	for name, list := range map[string][]time.Duration{"write": writes, "read": reads} {
		slices.Sort(list)
		b.ReportMetric(float64(list[len(list)/2].Microseconds()), name+"-p50-µs")
		b.ReportMetric(float64(list[len(list)*99/100].Microseconds()), name+"-p99-µs")
	}
}

// fill makes the database as large as if many other images had been pulled: as many
// rows of the same sizes, under keys as random as real ones.
func fill(b *testing.B, server *pgtest.Server) (images int) {
	b.Helper()
	text := os.Getenv("PULLGATE_IMAGES")
	if text == "" {
		return 0
	}
	images, err := strconv.Atoi(text)
	if err != nil {
		b.Fatalf("PULLGATE_IMAGES: %v", err)
	}

	const atOnce = 4000 // within a statement's time on a slow machine
	for from := 0; from < images; from += atOnce {
		to := min(from+atOnce, images) - 1
		server.SQL(b, fmt.Sprintf(`
INSERT INTO pullgate_lists (key, digests)
SELECT decode('42', 'hex') || substring(sha256('fill') for 16) || '\x01' || sha256((i || '/' || p)::bytea),
	'\x0001'::bytea || sha256(i::text::bytea)
FROM generate_series(%d, %d) i, generate_series(1, 12) p`, from, to))
		server.SQL(b, fmt.Sprintf(`
INSERT INTO pullgate_records (key, value)
SELECT decode('4d', 'hex') || substring(sha256('fill') for 16) || '\x01' || sha256((i || '/' || p)::bytea),
	convert_to(repeat(encode(sha256((i || '-' || p)::bytea), 'hex'), 11), 'UTF8')
FROM generate_series(%d, %d) i, generate_series(1, 4) p`, from, to))
	}
	return images
}

func benchImage(repo policy.Repository, n int, shared []digest.Digest) []facts.Fact {
	var children []digest.Digest
	var list []facts.Fact
	add := func(parts oci.Structure, size int) digest.Digest {
		content := []byte(fmt.Sprint(n, parts, strings.Repeat("x", size)))
		m := oci.Manifest{
			Bytes:     content,
			Digest:    digest.FromBytes(content),
			MediaType: "application/vnd.oci.image.manifest.v1+json",
		}
		list = append(list, facts.Fact{Repository: repo, Manifest: m, Parts: parts})
		return m.Digest
	}
	for p := range 2 {
		blobs := slices.Clone(shared)
		for l := range 5 {
			blobs = append(blobs, digest.FromString(fmt.Sprint(n, p, l)))
		}
		children = append(children, add(oci.Structure{Kind: oci.Image, Blobs: blobs}, 700))
	}
	add(oci.Structure{Kind: oci.Index, Manifests: children}, 300)
	list[2].Evidence = &facts.Evidence{FetchedAt: time.Now(), Signatures: []facts.Signature{{
		Format:      facts.SimpleSigning,
		Payload:     []byte(strings.Repeat("p", 250)),
		Annotations: map[string]string{"dev.cosignproject.cosign/signature": strings.Repeat("s", 96)},
	}}}
	return list
}
