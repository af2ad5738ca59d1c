package decisions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

const (
	searchTime = 20 * time.Second // for a search, the wait for the one before included
	sendTime   = 10 * time.Second // for the client to take the answer
)

// Answer is the body of GET /decisions.
type Answer struct {
	Decisions []Record `json:"decisions"`
	More      bool     `json:"more"` // older records match too
}

// ServeHTTP answers GET /decisions. One search runs at a time, and neither it nor
// a slow client keeps the next one waiting for long.
func (r *Recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if r == nil {
		refuse(w, http.StatusNotFound, "decisions are not recorded: the configuration says decisions: {to: none}")
		return
	}
	q, err := parseQuery(req.URL)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}

	ctx, cancel := context.WithTimeout(req.Context(), searchTime)
	defer cancel()
	select {
	case r.searching <- struct{}{}:
		defer func() { <-r.searching }()
	case <-ctx.Done():
		refuse(w, http.StatusServiceUnavailable, "another search is under way")
		return
	}

	found, more, err := q.find(ctx, r.sink.newest())
	if err != nil {
		r.log.Warn("decisions could not be searched whole", "error", err)
		refuse(w, http.StatusServiceUnavailable, "the decisions could not be searched; the gate's log says why")
		return
	}
	if found == nil {
		found = []Record{} // a list in JSON too
	}
	send(w, Answer{Decisions: found, More: more})
}

func send(w http.ResponseWriter, answer Answer) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")

	// Other clients wait for their search meanwhile.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(sendTime))
	_ = json.NewEncoder(w).Encode(answer) // a client that left needs no answer
}

func refuse(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n") // a client that left needs no answer
}

func parseQuery(u *url.URL) (Query, error) {
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Query{}, errors.New("the query is malformed")
	}
	for key, list := range values {
		if !slices.Contains([]string{"id", "image", "outcome", "kind", "limit"}, key) || len(list) != 1 {
			return Query{}, fmt.Errorf("%.40q: ask with id, image, outcome, kind and limit, each once at most", key)
		}
	}

	limit := 0
	if text := values.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit <= 0 {
			return Query{}, fmt.Errorf("limit must be between 1 and %d", maxLimit)
		}
	}

	q, err := NewQuery(values.Get("id"), values.Get("image"), values.Get("outcome"), limit)
	if q.Kind = values.Get("kind"); err == nil && q.Kind != "" && q.Kind != KindManifest && q.Kind != KindBlob {
		err = fmt.Errorf("kind %.40q must be %s or %s", q.Kind, KindManifest, KindBlob)
	}
	return q, err
}
