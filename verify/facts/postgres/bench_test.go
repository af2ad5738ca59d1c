package postgres_test

import (
	"context"
	"fmt"
	"slices"
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
// bytes.
func BenchmarkImages(b *testing.B) {
	server := pgtest.Start(b)
	s, err := postgres.Open(postgres.Config{URL: server.URL()}, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(b.Context(), 10*time.Minute)
	defer cancel()
	if err := s.Ready(ctx); err != nil {
		b.Fatal(err)
	}
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

	images := float64(b.N)
	server.SQL(b, "VACUUM ANALYZE")
	bytes := server.Value(
		b,
		"SELECT pg_total_relation_size('pullgate_lists') + pg_total_relation_size('pullgate_records')",
	)
	rows := server.Value(b, "SELECT (SELECT count(*) FROM pullgate_lists) + (SELECT count(*) FROM pullgate_records)")
	b.ReportMetric(float64(bytes)/images, "B/image")
	b.ReportMetric(float64(rows)/images, "rows/image")
	for name, list := range map[string][]time.Duration{"write": writes, "read": reads} {
		slices.Sort(list)
		b.ReportMetric(float64(list[len(list)/2].Microseconds()), name+"-p50-µs")
		b.ReportMetric(float64(list[len(list)*99/100].Microseconds()), name+"-p99-µs")
	}
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
