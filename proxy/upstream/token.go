package upstream

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy/upstream/credentials"
)

const (
	maxTokens    = 4096 // repositories whose token is cached
	tokenTimeout = 15 * time.Second
)

// tokens caches the Authorization headers that a registry accepts, one for each
// repository.
type tokens struct {
	up      *Upstream
	flights singleflight.Group

	mu    sync.Mutex
	byKey map[string]token
	basic bool // the registry itself takes Basic, for every repository
}

type token struct {
	header string
	until  time.Time
}

func newTokens(u *Upstream) *tokens { return &tokens{up: u, byKey: map[string]token{}} }

// cached is the Authorization header that worked last for repo, if there is one.
func (t *tokens) cached(ctx context.Context, repo policy.Repository) (string, error) {
	t.mu.Lock()
	known, basic := t.byKey[repo.Path], t.basic
	t.mu.Unlock()

	if basic {
		return t.basicHeader(ctx, repo)
	}

	if time.Now().Before(known.until) {
		return known.header, nil
	}

	return "", nil
}

// respond returns the Authorization header that meets a 401's challenges; tried
// is the header that was refused. A token gives away less than a password, so a
// Bearer challenge is met first, in whichever order the registry names them.
func (t *tokens) respond(
	ctx context.Context,
	repo policy.Repository,
	challenges []string,
	tried string,
) (string, error) {
	if params, ok := challengeOf(challenges, "Bearer"); ok {
		return t.bearer(ctx, repo, params, tried)
	}

	if _, ok := challengeOf(challenges, "Basic"); ok {
		header, err := t.basicHeader(ctx, repo)
		if err != nil || header == "" || header == tried {
			return "", t.unauthorized(err)
		}

		return header, nil
	}

	return "", t.unauthorized(nil)
}

// worked notes that the registry itself takes Basic.
func (t *tokens) worked(header string) {
	if strings.HasPrefix(header, "Basic ") {
		t.mu.Lock()
		t.basic = true
		t.mu.Unlock()
	}
}

// unauthorized is the registry's 401 when there is nothing, or nothing else, to
// show.
func (t *tokens) unauthorized(err error) error {
	if err == nil {
		err = errors.New("it wants credentials that the gate does not have")
	}

	return t.up.failure(http.StatusUnauthorized, err)
}

func (t *tokens) basicHeader(ctx context.Context, repo policy.Repository) (string, error) {
	c, err := t.up.auth.Get(ctx, repo)
	if err != nil || c.Username == "" {
		return "", err
	}

	return basicAuth(c), nil
}

func basicAuth(c credentials.Credentials) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.Username+":"+c.Password))
}

// bearer returns a token for repo. Requests for one repository that arrive
// meanwhile share one fetch, which the first caller's leaving does not end.
func (t *tokens) bearer(ctx context.Context, repo policy.Repository, params, tried string) (string, error) {
	t.mu.Lock()
	known := t.byKey[repo.Path]
	t.mu.Unlock()

	if known.header != "" && known.header != tried && time.Now().Before(known.until) {
		return known.header, nil // another request has fetched it since
	}

	fetched := t.flights.DoChan(repo.Path, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tokenTimeout)
		defer cancel()

		fresh, err := t.fetch(ctx, repo, params)
		if err != nil {
			return "", err
		}

		t.keep(repo, fresh)

		return fresh.header, nil
	})

	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case r := <-fetched:
		if r.Err != nil {
			return "", r.Err
		}

		return r.Val.(string), nil
	}
}

// keep caches a token. A full cache starts anew.
func (t *tokens) keep(repo policy.Repository, fresh token) {
	t.mu.Lock()
	defer t.mu.Unlock()

	if len(t.byKey) >= maxTokens {
		clear(t.byKey)
	}

	t.byKey[repo.Path] = fresh
}
