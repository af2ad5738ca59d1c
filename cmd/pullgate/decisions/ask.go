package decisions

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pullgate/pullgate/cmd/pullgate/show"
)

const (
	answerTime      = searchTime + 10*time.Second
	maxAnswerBytes  = 2 * maxFoundBytes
	maxRefusalBytes = 300 // of a gate's refusal, quoted in an error
)

// Ask asks the running gate whose admin port is at the URL admin for the newest
// records that q matches. Where no gate answers, the error is a *url.Error.
func (q Query) Ask(ctx context.Context, admin string) ([]Record, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, admin+"/decisions?"+q.encode(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask the gate: %w", err)
	}
	resp, err := (&http.Client{Timeout: answerTime}).Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the gate: %w", err)
	}
	defer resp.Body.Close()

	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return nil, fmt.Errorf("read the gate's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		text := show.Printable(show.Shorten(strings.TrimSpace(string(body)), maxRefusalBytes))
		return nil, fmt.Errorf("the gate answered %d: %s", resp.StatusCode, text)
	}

	var answer Answer
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("%s is no gate's admin port: its answer is not understood: %w", admin, err)
	}
	for i := range answer.Decisions {
		answer.Decisions[i].sanitize()
	}
	return answer.Decisions, nil
}

// encode writes q as the query of a URL.
func (q Query) encode() string {
	values := url.Values{"limit": {strconv.Itoa(q.Limit)}}
	for key, value := range map[string]string{
		"id":      q.ID,
		"image":   q.Image.String(),
		"outcome": q.Outcome,
		"kind":    q.Kind,
	} {
		if value != "" {
			values.Set(key, value)
		}
	}
	return values.Encode()
}
