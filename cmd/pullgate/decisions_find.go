package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/pullgate/pullgate/cmd/pullgate/imagename"
	"github.com/pullgate/pullgate/cmd/pullgate/show"
	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy"
	"github.com/pullgate/pullgate/verify"
)

const (
	decisionsUsual    = 20       // answered without a limit
	decisionsMost     = 1000     // answered at once
	decisionsBytes    = 16 << 20 // answered at once
	decisionsFindTime = 20 * time.Second
	decisionsSendTime = 10 * time.Second // for an answer to be taken
)

// decisionQuery says which decisions are wanted; what is empty matches all.
type decisionQuery struct {
	id      string
	image   policy.Image // with a reference or without
	outcome string
	limit   int
}

var (
	decisionID       = regexp.MustCompile(`^[A-Z2-7]{26}$`)
	decisionOutcomes = []string{
		"error",
		verify.Allowed.String(),
		verify.Denied.String(),
		verify.Warned.String(),
		verify.WarnedUnverified.String(),
	}
)

// newDecisionQuery checks what people wrote; zero limit means the usual one.
func newDecisionQuery(id, image, outcome string, limit int) (decisionQuery, error) {
	q := decisionQuery{id: id, outcome: outcome, limit: limit}
	if limit == 0 {
		q.limit = decisionsUsual
	}
	if q.limit < 0 || q.limit > decisionsMost {
		return q, fmt.Errorf("limit must be between 1 and %d", decisionsMost)
	}
	if id != "" && !decisionID.MatchString(id) {
		return q, fmt.Errorf(
			"%.40q is no decision's id: that is 26 letters and digits, as in the Pullgate-Decision header",
			id,
		)
	}
	if outcome != "" && !slices.Contains(decisionOutcomes, outcome) {
		return q, fmt.Errorf("outcome %.40q must be one of %s", outcome, strings.Join(decisionOutcomes, ", "))
	}
	if image == "" {
		return q, nil
	}
	if len(image) > 1000 || show.Printable(image) != image { // the parser's errors repeat it as it is
		return q, fmt.Errorf("%.40q is no image name", image)
	}
	if bare, err := name.NewRepository(image); err == nil { // neither tag nor digest: any of them
		repo, err := policy.ParseRepository(bare.RegistryStr() + "/" + bare.RepositoryStr())
		q.image.Repository = repo
		return q, err
	}
	var err error
	q.image, err = imagename.Parse(image)
	return q, err
}

func (q decisionQuery) matches(d *proxy.Decision) bool {
	repo, reference := q.image.Repository.String(), q.image.Reference.String()
	return (q.id == "" || d.ID == q.id) && (repo == "" || d.Image == repo) &&
		(q.outcome == "" || d.Outcome == q.outcome) &&
		(reference == "" || d.Reference == reference || d.Digest == reference)
}

// find returns what matches among lines, in their order; more says that there
// may be others. Lines that are none are passed over: the last one of a file
// may be unfinished. An error comes with what was found before it.
func (q decisionQuery) find(
	ctx context.Context,
	lines iter.Seq2[[]byte, error],
) (found []proxy.Decision, more bool, err error) {
	repo, reference := q.image.Repository.String(), q.image.Reference.String()
	size := 0
	for line, failed := range lines {
		if failed != nil {
			if err = errors.Join(err, failed); len(found) == 0 {
				return nil, true, err // what is newest might stand there, and say the opposite
			}
			continue
		}
		if ctx.Err() != nil {
			return found, true, errors.Join(err, fmt.Errorf("search decisions: %w", ctx.Err()))
		}
		// Cheaper than decoding every line: all of these are in a line as they are.
		if !bytes.Contains(line, []byte(q.id)) || !bytes.Contains(line, []byte(repo)) ||
			!bytes.Contains(line, []byte(reference)) {
			continue
		}
		d, ok := decodeDecision(line)
		if !ok || !q.matches(&d) {
			continue
		}
		if size += len(line); len(found) == q.limit || size > decisionsBytes {
			return found, true, err
		}
		found = append(found, d)
	}
	return found, false, err
}

// decodeDecision reads a line that may come from anybody.
func decodeDecision(line []byte) (proxy.Decision, bool) {
	var d proxy.Decision
	if len(line) > maxDecisionBytes || json.Unmarshal(line, &d) != nil || d.ID == "" || d.Kind == "" ||
		!slices.Contains(decisionOutcomes, d.Outcome) {
		return d, false
	}
	return harmless(d), true
}

// foundDecisions is the body of GET /decisions.
type foundDecisions struct {
	Decisions []proxy.Decision `json:"decisions"`
	More      bool             `json:"more"` // older ones match too
}

// ServeHTTP answers GET /decisions. One search runs at a time, and not for long.
func (d *decisions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if d == nil {
		say(w, http.StatusNotFound, "decisions are not recorded: the configuration says decisions: {to: none}\n")
		return
	}
	q, err := queryOf(r.URL)
	if err != nil {
		say(w, http.StatusBadRequest, err.Error()+"\n")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), decisionsFindTime)
	defer cancel()
	select {
	case d.reading <- struct{}{}:
		defer func() { <-d.reading }()
	case <-ctx.Done():
		say(w, http.StatusServiceUnavailable, "another search is under way\n")
		return
	}
	var answer foundDecisions
	if answer.Decisions, answer.More, err = q.find(ctx, d.sink.newest()); err != nil {
		d.log.Warn("decisions could not be searched whole", "error", err)
		say(w, http.StatusServiceUnavailable, "the decisions could not be searched; the gate's log says why\n")
		return
	}
	if answer.Decisions == nil {
		answer.Decisions = []proxy.Decision{}
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	_ = http.NewResponseController(
		w,
	).SetWriteDeadline(
		time.Now().Add(decisionsSendTime),
	) // others wait for their search
	_ = json.NewEncoder(
		w,
	).Encode(
		answer,
	) // a client that left needs no answer
}

func queryOf(u *url.URL) (decisionQuery, error) {
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return decisionQuery{}, errors.New("the query is malformed")
	}
	for key, list := range values {
		if !slices.Contains([]string{"id", "image", "outcome", "limit"}, key) || len(list) != 1 {
			return decisionQuery{}, fmt.Errorf("%.40q: ask with id, image, outcome and limit, each once at most", key)
		}
	}
	limit := 0
	if text := values.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit <= 0 {
			return decisionQuery{}, fmt.Errorf("limit must be between 1 and %d", decisionsMost)
		}
	}
	return newDecisionQuery(values.Get("id"), values.Get("image"), values.Get("outcome"), limit)
}

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprint(w, text) // a client that left needs no answer
}
