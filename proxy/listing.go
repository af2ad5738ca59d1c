package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
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
	at, err := x.page()
	if err != nil {
		return err
	}

	ctx, cancel := context.WithTimeout(x.ctx, x.snapshot.Listings.Timeout)
	defer cancel()
	repo := x.request.repo
	registry, err := x.snapshot.Upstreams.registry(repo)
	if err != nil {
		return err
	}
	tags, next, err := registry.Tags(ctx, repo, at.query, x.snapshot.Listings.Bytes)
	if err != nil {
		return err
	}

	body, err := json.Marshal(tagList{Name: x.request.asked, Tags: tags})
	if err != nil {
		return fmt.Errorf("write tags of %s: %w", repo, err)
	}
	if err := x.linkNext(at, "tags/list", next, len(tags)); err != nil {
		return err
	}
	x.writeList("application/json", body)
	return nil
}

// page finds out whether the client may have a listing of the repository, and
// which page of it is asked for.
func (x *exchange) page() (page, error) {
	gate, req := x.snapshot.Gate, &x.request
	if err := gate.Listable(req.repo, req.client); err != nil {
		return page{}, err
	}

	at := page{}
	switch n, err := strconv.Atoi(req.n); {
	case req.page != "":
		if at, err = parsePage(req.page); err != nil {
			return page{}, err
		}
	case req.kind != tagsKind: // referrers know no n
	case req.n != "" && (err != nil || n < 0 || n > 10_000):
		return page{}, badRequest(
			"UNSUPPORTED",
			"n must be a number from 0 to 10000",
		) // CVE-2023-2253: pages are bounded
	default:
		at = firstPage(req.n, req.last)
	}
	return at, gate.SpendListing(req.client)
}

// serveReferrers lists what is attached to a digest: names only; each is
// judged when it is asked for.
func (x *exchange) serveReferrers() error {
	at, err := x.page()
	if err != nil {
		return err
	}

	ctx, cancel := context.WithTimeout(x.ctx, x.snapshot.Listings.Timeout)
	defer cancel()
	req := &x.request
	registry, err := x.snapshot.Upstreams.registry(req.repo)
	if err != nil {
		return err
	}
	list, next, err := registry.ReferrersFrom(ctx, req.repo, req.ref.Digest, at.query, x.snapshot.Listings.Bytes)
	if err != nil && !noReferrers(err) {
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

	if err := x.linkNext(at, "referrers/"+req.ref.Digest.String(), next, len(list.Descriptors)); err != nil {
		return err
	}
	if req.artifactType != "" {
		x.w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	x.writeList(indexType, body)
	return nil
}

// noReferrers reports the answers of a registry that has no referrers API and
// says so in a way of its own.
func noReferrers(err error) bool {
	var failure *oci.UpstreamError
	if !errors.As(err, &failure) {
		return false
	}
	switch failure.Status {
	case http.StatusNotAcceptable,
		http.StatusGone,
		http.StatusUnsupportedMediaType,
		http.StatusUnprocessableEntity:
		return true
	}
	return false
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
