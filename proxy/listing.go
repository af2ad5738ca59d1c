package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/pullgate/pullgate/verify/oci"
)

// serveTags passes a tag list on: names only, never content.
func serveTags(s *Snapshot, w http.ResponseWriter, r *http.Request, req request, seen *observation) error {
	if err := refusesAll(s, req); err != nil {
		return err
	}
	if n, err := strconv.Atoi(req.n); req.n != "" && (err != nil || n < 0 || n > 10_000) {
		return badRequest("UNSUPPORTED", "n must be a number from 0 to 10000") // CVE-2023-2253: pages are bounded
	}
	if err := s.Gate.Spend(req.client); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(seen.ctx, s.Gate.Timeout())
	defer cancel()
	tags, next, err := s.Upstreams[req.repo.Host].Tags(ctx, req.repo, req.n, req.last, s.Gate.ListingBytes())
	if err != nil {
		return err
	}
	if next != nil { // the page after this one, asked of the gate as this one was
		if ns := r.URL.Query().Get("ns"); ns != "" {
			next.Set("ns", ns)
		}
		w.Header().Set("Link", "<"+r.URL.EscapedPath()+"?"+next.Encode()+`>; rel="next"`)
	}
	body, err := json.Marshal(tagList{
		Name: strings.TrimSuffix(strings.TrimPrefix(r.URL.EscapedPath(), "/v2/"), "/tags/list"),
		Tags: tags,
	})
	if err != nil {
		return fmt.Errorf("write tags of %s: %w", req.repo, err)
	}
	writeList(w, r, "application/json", body)
	return nil
}

// tagList is the answer of tags/list; the name is the one that was asked for.
type tagList struct {
	Name string   `json:"name"`
	Tags []string `json:"tags"`
}

// referrersIndex is the answer of the referrers API, written here from what
// was read: inline data and everything else unknown is gone.
type referrersIndex struct {
	SchemaVersion int              `json:"schemaVersion"`
	MediaType     string           `json:"mediaType"`
	Manifests     []oci.Descriptor `json:"manifests"`
}

const indexType = "application/vnd.oci.image.index.v1+json"

// serveReferrers lists what is attached to a digest: names only; each is
// judged when it is asked for.
func serveReferrers(s *Snapshot, w http.ResponseWriter, r *http.Request, req request, seen *observation) error {
	if err := refusesAll(s, req); err != nil {
		return err
	}
	if err := s.Gate.Spend(req.client); err != nil {
		return err
	}
	limit := s.Gate.ListingBytes()
	ctx, cancel := context.WithTimeout(seen.ctx, s.Gate.Timeout())
	defer cancel()
	list, err := s.Upstreams[req.repo.Host].Referrers(ctx, req.repo, req.ref.Digest, limit)
	if err != nil {
		return err
	}
	if !list.Supported {
		return &answer{
			status:  http.StatusNotFound,
			code:    "UNSUPPORTED",
			message: "the upstream has no referrers API; use the referrers tag",
		}
	}
	index := referrersIndex{SchemaVersion: 2, MediaType: indexType, Manifests: []oci.Descriptor{}}
	for _, d := range list.Descriptors {
		if oci.CheckDigest(d.Digest) == nil && (req.artifact == "" || req.artifact == d.ArtifactType) {
			index.Manifests = append(index.Manifests, d)
		}
	}
	if req.artifact != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	body, err := json.Marshal(index)
	if err != nil {
		return fmt.Errorf("write referrers of %s: %w", req.repo.At(req.ref.Digest), err)
	}
	writeList(w, r, indexType, body)
	return nil
}

func writeList(w http.ResponseWriter, r *http.Request, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "private, no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // a client that left needs no answer
	}
}
