// Package profiles is the registries that people proxy, as they speak on the
// wire. A Profile says how one of them differs from the distribution
// specification; a Registry answers by it, under the registry's real host names,
// on loopback.
//
// The rows of Table were written from documentation, source code and reports, and
// were not measured against the live services: a row is what the gate has to cope
// with, not a promise about the service.
package profiles

import (
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Profile is how a registry speaks, as far as a pull sees it. What is left out is
// as the specification says: no credentials are wanted, blobs are streamed, there
// is a referrers API, and what is missing is 404.
type Profile struct {
	Name string // as people call it
	Host string // in image names
	API  string // host that answers; empty: Host
	Base string // path at which the API begins; empty: /v2/

	Repository   string            // a repository's name in this registry's style
	AccountsOnly bool              // nothing can be read without an account
	Header       map[string]string // of every answer, of which no client gets anything

	Challenge Challenge
	Tokens    Tokens
	Absent    Absent
	Manifests Manifests
	Blobs     Blobs
	Referrers Referrers
	Tags      Tags
	Rate      Rate
}

// The account that every registry of this package knows, and the word that each
// of its secrets holds, so that one search finds any of them.
const (
	User     = "robot"
	Password = "pass-" + Mark
	Mark     = "s3cr3t"
)

// URL is the address of the API as a configuration would hold it; nil where the
// host alone says it.
func (p Profile) URL() *url.URL {
	if p.Base == "" {
		return nil
	}
	return &url.URL{Scheme: "https", Host: p.api(), Path: p.Base}
}

func (p Profile) api() string {
	if p.API != "" {
		return p.API
	}
	return p.Host
}

func (p Profile) base() string {
	if p.Base != "" {
		return p.Base
	}
	return "/v2/"
}

// Refusal is how a registry says no. The zero value stands for what the
// specification says.
type Refusal struct {
	Status int
	Code   string
	Form   Form
}

// Form is what the body of a refusal is.
type Form int

// The forms of refusals.
const (
	JSON Form = iota // the specification's envelope
	Text
	HTML
	Empty
)

// or is r, or what stands in for a refusal that a profile leaves out.
func (r Refusal) or(other Refusal) Refusal {
	if r.Status == 0 {
		return other
	}
	return r
}

func (r Refusal) write(w http.ResponseWriter) {
	body, contentType := "", ""
	switch r.Form {
	case JSON:
		body, contentType = `{"errors":[{"code":"`+r.Code+`","message":"from upstream"}]}`, "application/json"
	case Text:
		body, contentType = strings.ToLower(http.StatusText(r.Status))+"\n", "text/plain; charset=utf-8"
	case HTML:
		body, contentType = "<!DOCTYPE html><html><body>"+r.Code+"</body></html>", "text/html"
	case Empty:
		w.Header().Set("Content-Length", "0")
	}

	if contentType != "" {
		w.Header().Set("Content-Type", contentType)
	}
	w.WriteHeader(r.Status)
	_, _ = w.Write([]byte(body)) // a client that left needs no answer
}

// Links is how a registry spells the link to the next page.
type Links int

// The spellings of links.
const (
	Relative  Links = iota // a path
	Absolute               // a URL of the registry
	OtherHost              // a URL of an inner host that its clients cannot reach
)

// link is the value of Link for a path with a query.
func (p Profile) link(form Links, path string, query url.Values) string {
	at := url.URL{Path: path, RawQuery: query.Encode()}
	switch form {
	case Relative:
	case Absolute:
		at.Scheme, at.Host = "https", p.api()
	case OtherHost:
		at.Scheme, at.Host = "http", "registry.inner.example:8080"
	}
	return "<" + at.String() + `>; rel="next"`
}

// Clock tells a registry the time.
type Clock func() time.Time
