package warm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/pullgate/pullgate/cmd/pullgate/config"
	"github.com/pullgate/pullgate/cmd/pullgate/server"
	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify"
)

// answerTime is what a gate may take for an answer beyond limits.verifyTimeout.
const answerTime = 5 * time.Second

// Gate is a gate that is asked for images: the running one, or one of this
// process that opens the state itself.
type Gate struct {
	config *config.Config // names the upstreams
	ask    asker
	close  func() error
}

// Close releases the state, if this process has opened it.
func (g *Gate) Close() error { return g.close() }

// Find finds the gate at a URL. Without one it tries the address that the
// configuration listens on, and opens the state itself when nothing answers there.
func Find(ctx context.Context, l *server.Loaded, url string) (*Gate, error) {
	given := url != ""
	if !given {
		if l.Config.TLS.CertFile != "" {
			return nil, errors.New(
				"the gate has a certificate: give --gate https://NAME:PORT with the name it is for",
			)
		}
		url = "http://" + l.Config.Listen
	}

	running := &running{
		url:    strings.TrimSuffix(url, "/"),
		client: &http.Client{Timeout: l.Config.Limits.VerifyTimeout + answerTime},
		limit:  l.Config.Limits.ManifestBytes,
	}
	if given || running.answers(ctx) {
		return &Gate{config: l.Config, ask: running.manifest, close: func() error { return nil }}, nil
	}

	own, err := server.NewStandaloneGate(ctx, l, l.Config.StatePath(), nil)
	if err != nil {
		return nil, err
	}
	return &Gate{config: l.Config, ask: standalone(own.Gate), close: own.Close}, nil
}

func standalone(gate *verify.Gate) asker {
	return func(ctx context.Context, image policy.Image) ([]byte, error) {
		m, v, err := gate.Manifest(ctx, image, policy.Client{})
		if err == nil && !v.Admitted() {
			err = &refusal{v.Message()}
		}
		return m.Bytes, err
	}
}

// running is a gate that serves.
type running struct {
	url    string
	client *http.Client
	limit  config.Size // of a manifest
}

func (r *running) answers(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+"/v2/", nil)
	if err != nil {
		return false
	}

	resp, err := r.client.Do(req)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil
}

// manifest is the asker of a gate that serves.
func (r *running) manifest(ctx context.Context, image policy.Image) ([]byte, error) {
	url := fmt.Sprintf("%s/v2/%s/manifests/%s?ns=%s", r.url, image.Path, image.Reference, image.Host)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("ask the gate: %w", err)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the gate: %w", err)
	}
	defer resp.Body.Close()

	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(r.limit)+1))
	if err != nil {
		return nil, fmt.Errorf("read the gate's answer: %w", err)
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return body, nil
	case http.StatusForbidden:
		return nil, &refusal{messageOf(resp.StatusCode, body)}
	}
	return nil, fmt.Errorf("the gate answered %d: %s", resp.StatusCode, messageOf(resp.StatusCode, body))
}

// messageOf is what an error answer says.
func messageOf(status int, body []byte) string {
	var envelope struct {
		Errors []struct{ Message string } `json:"errors"`
	}

	if json.Unmarshal(body, &envelope) == nil && len(envelope.Errors) > 0 {
		return envelope.Errors[0].Message
	}
	return http.StatusText(status)
}
