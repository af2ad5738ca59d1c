package proxy

import (
	"encoding/base64"
	"errors"
	"fmt"
	"hash/fnv"
	"math/bits"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/pullgate/pullgate/proxy/upstream"
	"github.com/pullgate/pullgate/verify/oci"
)

// page is where a listing stands. The gate keeps nothing between two requests of
// a client, so that all of it is in the link that the client follows.
type page struct {
	query string // the registry's, as it came; empty: the first page
	steps uint32 // pages before this one
	mark  uint64 // an earlier page's, to find out that the registry leads in a circle
}

// hash tells pages apart.
func (p page) hash() uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(p.query)) // which never fails
	return h.Sum64()
}

// errCircle is why a listing cannot go on.
var errCircle = errors.New("its listing leads in a circle: the next page is one that came before")

// after is the page that the registry links to from p with query. An error means
// that pages come again, which a client would follow for ever: the mark moves at
// every power of two (Brent's algorithm), so that a circle of any length meets it.
func (p page) after(query string) (page, error) {
	next := page{query: query, steps: p.steps + 1, mark: p.mark}
	if p.steps == 0 {
		next.mark = p.hash()
	}
	if query == p.query || next.steps == 0 || next.hash() == next.mark {
		return page{}, errCircle
	}

	if bits.OnesCount32(next.steps) == 1 {
		next.mark = next.hash()
	}
	return next, nil
}

// String is p as the parameter page holds it.
func (p page) String() string {
	return fmt.Sprintf("%d.%x.%s", p.steps, p.mark, base64.RawURLEncoding.EncodeToString([]byte(p.query)))
}

// parsePage reads String's form. A client that writes one of its own gets what
// the registry answers to it.
func parsePage(s string) (page, error) {
	steps, rest, ok := strings.Cut(s, ".")
	mark, query, ok2 := strings.Cut(rest, ".")
	n, err := strconv.ParseUint(steps, 10, 32)
	m, err2 := strconv.ParseUint(mark, 16, 64)
	text, err3 := base64.RawURLEncoding.Strict().DecodeString(query)
	if !ok || !ok2 || err != nil || err2 != nil || err3 != nil || len(text) == 0 || !upstream.ValidQuery(string(text)) {
		return page{}, badRequest("UNSUPPORTED", "page is none that the gate has linked to")
	}
	return page{query: string(text), steps: uint32(n), mark: m}, nil
}

// mostTags is the largest n that every registry takes. Amazon's and older ones of
// distribution answer a larger one with an error; a page of fewer tags than were
// asked for links to the rest.
const mostTags = 1000

// firstPage is the page of a client that follows no link: of n tags after last.
// n is a number, or empty.
func firstPage(n, last string) page {
	query := url.Values{}
	if most, err := strconv.Atoi(n); err == nil {
		query.Set("n", strconv.Itoa(min(most, mostTags)))
	}
	if last != "" {
		query.Set("last", last)
	}
	return page{query: query.Encode()}
}

// linkNext names the page after p in the answer, to be asked of the gate by the
// same name. query is the registry's, empty after the last page. A registry whose
// pages come again is broken, unless the page lists nothing: then that is how it
// says that the list has ended.
func (x *exchange) linkNext(p page, kind, query string, listed int) error {
	if query == "" {
		return nil
	}
	next, err := p.after(query)
	switch {
	case err != nil && listed == 0:
		return nil
	case err != nil:
		return &oci.UpstreamError{Status: http.StatusBadGateway, Host: x.request.repo.Host, Err: err}
	}

	values := url.Values{"page": {next.String()}}
	if x.request.ns != "" {
		values.Set("ns", x.request.ns)
	}
	if x.request.artifactType != "" {
		values.Set("artifactType", x.request.artifactType)
	}
	x.w.Header().Set("Link", "</v2/"+x.request.asked+"/"+kind+"?"+values.Encode()+`>; rel="next"`)
	return nil
}
