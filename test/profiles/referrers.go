package profiles

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"

	"github.com/pullgate/pullgate/test/hostile"
)

// Referrers is what a registry says of the manifests that refer to another.
type Referrers struct {
	// None is how a registry without the API says so; the zero value: it has one.
	None Refusal

	// Away is where requests are redirected that have no business at a browser's
	// page; empty: nowhere.
	Away       string
	AwayStatus int // of the redirect
	There      int // status of that page

	Page           int   // entries of a page; 0: all
	Links          Links // to the next one
	Untyped        bool  // entries have no artifactType
	UnknownSubject int   // status for a digest that the registry has no manifest of; 0: an empty list
	IgnoresFilter  bool  // artifactType is not looked at
}

// Available reports whether a client learns anything from the API.
func (f Referrers) Available() bool { return f.None.Status == 0 && f.Away == "" }

// index is a page of referrers.
type index struct {
	SchemaVersion int                  `json:"schemaVersion"`
	MediaType     string               `json:"mediaType"`
	Manifests     []hostile.Descriptor `json:"manifests"`
}

// referrers answers a request for referrers.
func (r *Registry) referrers(w http.ResponseWriter, req *http.Request, q Seen) {
	how := r.profile.Referrers
	switch {
	case how.Away != "":
		w.Header().Set("Location", how.Away)
		w.WriteHeader(how.AwayStatus)
		return
	case how.None.Status != 0:
		how.None.write(w)
		return
	case how.UnknownSubject != 0 && r.content.Manifest(q.Repository, q.digest()) == nil:
		Refusal{Status: how.UnknownSubject, Code: "MANIFEST_INVALID"}.write(w)
		return
	}

	var list index
	if json.Unmarshal(r.stored(req, q).Body.Bytes(), &list) != nil {
		Refusal{Status: http.StatusInternalServerError}.write(w)
		return
	}
	query := req.URL.Query()
	if want := query.Get("artifactType"); want != "" && !how.IgnoresFilter {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
		list.Manifests = filtered(list.Manifests, want)
	}
	if how.Untyped {
		for i := range list.Manifests {
			list.Manifests[i].ArtifactType = ""
		}
	}

	from, _ := strconv.Atoi(query.Get("token")) // none: the first page
	from = min(from, len(list.Manifests))
	list.Manifests = list.Manifests[from:]
	if how.Page > 0 && len(list.Manifests) > how.Page {
		list.Manifests = list.Manifests[:how.Page]
		next := url.Values{"token": {strconv.Itoa(from + how.Page)}}
		w.Header().Set("Link", r.profile.link(how.Links, req.URL.Path, next))
	}

	w.Header().Set("Content-Type", hostile.IndexType)
	_ = json.NewEncoder(w).Encode(list) // a client that left needs no answer
}

func filtered(list []hostile.Descriptor, artifactType string) []hostile.Descriptor {
	kept := []hostile.Descriptor{}
	for _, d := range list {
		if d.ArtifactType == artifactType {
			kept = append(kept, d)
		}
	}
	return kept
}

// away is the page for browsers to which some registries redirect.
func (r *Registry) away(w http.ResponseWriter) {
	status := r.profile.Referrers.There
	if status == 0 {
		status = http.StatusOK
	}
	Refusal{Status: status, Code: "Please log in.", Form: HTML}.write(w)
}

// stored is the answer of a registry that keeps to the specification.
func (r *Registry) stored(req *http.Request, q Seen) *httptest.ResponseRecorder {
	plain := req.Clone(req.Context())
	plain.URL = &url.URL{Path: "/v2/" + q.rest}
	plain.RequestURI = plain.URL.Path
	plain.Header.Del("Authorization")

	a := httptest.NewRecorder()
	r.content.ServeHTTP(a, plain)
	return a
}

// send writes a stored answer.
func send(w http.ResponseWriter, a *httptest.ResponseRecorder) {
	for name, values := range a.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(a.Code)
	_, _ = w.Write(a.Body.Bytes()) // a client that left needs no answer
}
