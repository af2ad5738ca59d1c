package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/pullgate/pullgate/verify/oci"
)

const indexType = "application/vnd.oci.image.index.v1+json"

// tagList is the answer of tags/list; the name is the one that was asked for.
type tagList struct {
	Name string   `json:"name"`
	Tags []string `json:"tags"`
}

// referrersIndex is the answer of the referrers API. It is made of the parsed
// descriptors alone, so inline data and unknown fields are not passed on.
type referrersIndex struct {
	SchemaVersion int              `json:"schemaVersion"`
	MediaType     string           `json:"mediaType"`
	Manifests     []oci.Descriptor `json:"manifests"`
}

// serveTags passes a tag list on: names only, never content.
func (x *exchange) serveTags() error {
	gate, req, limits := x.snapshot.Gate, &x.request, x.snapshot.Listings
	if err := gate.Listable(req.repo, req.client); err != nil {
		return err
	}
	if n, err := strconv.Atoi(req.n); req.n != "" && (err != nil || n < 0 || n > 10_000) {
		return badRequest("UNSUPPORTED", "n must be a number from 0 to 10000") // CVE-2023-2253: pages are bounded
	}
	if err := gate.Spend(req.client); err != nil {
		return err
	}

	ctx, cancel := context.WithTimeout(x.ctx, limits.Timeout)
	defer cancel()
	tags, next, err := x.snapshot.Upstreams[req.repo.Host].Tags(ctx, req.repo, req.n, req.last, limits.Bytes)
	if err != nil {
		return err
	}

	body, err := json.Marshal(tagList{Name: req.asked, Tags: tags})
	if err != nil {
		return fmt.Errorf("write tags of %s: %w", req.repo, err)
	}
	if next != nil {
		x.linkNext(next)
	}
	x.writeList("application/json", body)
	return nil
}

// linkNext names the page after this one, to be asked of the gate by the same
// name. query is the upstream's.
func (x *exchange) linkNext(query url.Values) {
	if x.request.ns != "" {
		query.Set("ns", x.request.ns)
	}
	x.w.Header().Set("Link", "</v2/"+x.request.asked+"/tags/list?"+query.Encode()+`>; rel="next"`)
}

// serveReferrers lists what is attached to a digest: names only; each is
// judged when it is asked for.
func (x *exchange) serveReferrers() error {
	gate, req, limits := x.snapshot.Gate, &x.request, x.snapshot.Listings
	if err := gate.Listable(req.repo, req.client); err != nil {
		return err
	}
	if err := gate.Spend(req.client); err != nil {
		return err
	}

	ctx, cancel := context.WithTimeout(x.ctx, limits.Timeout)
	defer cancel()
	list, err := x.snapshot.Upstreams[req.repo.Host].Referrers(ctx, req.repo, req.ref.Digest, limits.Bytes)
	if err != nil {
		return err
	}
	if !list.Supported {
		return &httpError{
			status:  http.StatusNotFound,
			code:    "UNSUPPORTED",
			message: "the upstream has no referrers API; use the referrers tag",
		}
	}

	index := referrersIndex{SchemaVersion: 2, MediaType: indexType, Manifests: []oci.Descriptor{}}
	for _, d := range list.Descriptors {
		if oci.CheckDigest(d.Digest) == nil && (req.artifactType == "" || req.artifactType == d.ArtifactType) {
			index.Manifests = append(index.Manifests, d)
		}
	}
	body, err := json.Marshal(index)
	if err != nil {
		return fmt.Errorf("write referrers of %s: %w", req.repo.At(req.ref.Digest), err)
	}

	if req.artifactType != "" {
		x.w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	x.writeList(indexType, body)
	return nil
}

func (x *exchange) writeList(contentType string, body []byte) {
	h := x.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "private, no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
	x.w.WriteHeader(http.StatusOK)
	writeBody(x.w, x.method, body)
}
