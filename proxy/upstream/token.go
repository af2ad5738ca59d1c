package upstream

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy/upstream/credentials"
	"github.com/pullgate/pullgate/verify/oci"
)

const (
	maxTokens    = 4096 // repositories whose token is cached
	tokenTimeout = 15 * time.Second

	// basicFor is how long a registry that took a password is taken for one that
	// wants no token: some change their mind with what they are shown.
	basicFor = 5 * time.Minute
)

// tokens caches the Authorization headers that a registry accepts, one for each
// repository and for what the gate had to show for it.
type tokens struct {
	up      *Upstream
	flights singleflight.Group

	mu         sync.Mutex
	byKey      map[string]token
	latest     map[string]string // repository and scope → the key of the newest token
	basicUntil time.Time         // the registry itself takes Basic, for every repository
	proven     credentials.Credentials
	provenTill time.Time // a realm took them no longer ago than a token may live
}

type token struct {
	header string
	until  time.Time
}

func newTokens(u *Upstream) *tokens {
	return &tokens{up: u, byKey: map[string]token{}, latest: map[string]string{}}
}

// key is whose token it is: of a repository, for what is shown for it. Of
// credentials there is only a hash.
func key(repo policy.Repository, shown credentials.Credentials) string {
	if shown.Empty() {
		return repo.Path
	}
	parts := []string{shown.Username, shown.Password, shown.IdentityToken, shown.Token}
	hash := sha256.Sum256(fmt.Appendf(nil, "%q", parts)) // in quotes, so that no two are one
	return repo.Path + "\x00" + string(hash[:])
}

// reader is a repository with whose eyes it is read: one client's newest token is
// not another's.
func reader(repo policy.Repository) string {
	if repo.Scope == "" {
		return repo.Path
	}
	return repo.Path + "\x00" + repo.Scope
}

// cached is the Authorization header that worked last for repo, if there is one.
// A token outlives credentials that cannot be read for the moment.
func (t *tokens) cached(ctx context.Context, repo policy.Repository) (string, error) {
	shown, err := t.up.auth.Get(ctx, repo)

	t.mu.Lock()
	defer t.mu.Unlock()

	now := t.up.now()
	at := t.latest[reader(repo)]
	if err == nil {
		at = key(repo, shown)
	}
	known := t.byKey[at]

	switch {
	case shown.Token != "":
		return bearerOf(shown), nil
	case now.Before(t.basicUntil):
		return basicOf(shown), err
	case now.Before(known.until):
		return known.header, nil
	case err != nil && ctx.Err() != nil:
		return "", err
	}
	return "", nil
}

// respond returns the Authorization header that meets a 401's challenges; tried
// is the header that was refused. A token gives away less than a password, so a
// Bearer challenge is met first, in whichever order the registry names them.
func (t *tokens) respond(
	ctx context.Context,
	repo policy.Repository,
	challenges []challenge,
	tried string,
) (string, error) {
	if c, ok := challengeOf(challenges, "bearer"); ok {
		return t.bearer(ctx, repo, c, tried)
	}

	if _, ok := challengeOf(challenges, "basic"); ok {
		header, err := t.basicHeader(ctx, repo)
		if err != nil {
			return "", err // which is not the registry's refusal
		}
		if header != "" && header == tried {
			if fresh, ok := t.renewed(ctx, repo, header); ok {
				return fresh, nil
			}
		}
		if header == "" || header == tried {
			return "", t.unauthorized(nil)
		}

		return header, nil
	}

	return "", t.unauthorized(nil)
}

// worked notes that the registry itself takes Basic.
func (t *tokens) worked(header string) {
	if strings.HasPrefix(header, "Basic ") {
		t.mu.Lock()
		t.basicUntil = t.up.now().Add(basicFor)
		t.mu.Unlock()
	}
}

// forget drops a header that the registry refuses: the token of repo, or that it
// takes a password.
func (t *tokens) forget(repo policy.Repository, header string) {
	t.mu.Lock()
	defer t.mu.Unlock()

	if strings.HasPrefix(header, "Basic ") {
		t.basicUntil = time.Time{}
	}
	if at := t.latest[reader(repo)]; t.byKey[at].header == header {
		delete(t.byKey, at)
		delete(t.latest, reader(repo))
	}
}

// renewed is what is shown for repo once the source knows that header, a
// password, was refused. ok is false when it is the same again.
func (t *tokens) renewed(ctx context.Context, repo policy.Repository, header string) (fresh string, ok bool) {
	t.up.auth.Refused()
	fresh, err := t.basicHeader(ctx, repo)
	return fresh, err == nil && fresh != "" && fresh != header
}

// unauthorized is the registry's 401 when there is nothing, or nothing else, to
// show.
func (t *tokens) unauthorized(err error) error {
	if err == nil {
		err = errors.New("it wants credentials that the gate does not have")
	}

	return t.up.refusal(http.StatusUnauthorized, err)
}

func (t *tokens) basicHeader(ctx context.Context, repo policy.Repository) (string, error) {
	c, err := t.up.auth.Get(ctx, repo)
	return basicOf(c), err
}

// basicOf is the header that shows c, empty when c holds no password.
func basicOf(c credentials.Credentials) string {
	if c.Username == "" {
		return ""
	}
	return basicAuth(c.Username, c.Password)
}

// bearerOf is the header that shows a token which the registry itself takes.
func bearerOf(c credentials.Credentials) string { return "Bearer " + c.Token }

func basicAuth(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// bearer returns a token for repo. Requests for one repository that arrive
// meanwhile share one fetch, which the first caller's leaving does not end.
func (t *tokens) bearer(ctx context.Context, repo policy.Repository, c challenge, tried string) (string, error) {
	shown, err := t.up.auth.Get(ctx, repo)
	if err != nil {
		return "", err
	}
	if shown.Token != "" { // no realm may see it, nor has it another to give
		if header := bearerOf(shown); header != tried {
			return header, nil
		}
		return "", t.unauthorized(nil)
	}
	at := key(repo, shown)

	t.mu.Lock()
	known := t.byKey[at]
	t.mu.Unlock()

	if known.header != "" && known.header != tried && t.up.now().Before(known.until) {
		return known.header, nil // another request has fetched it since
	}

	fetched := t.flights.DoChan(at, func() (any, error) {
		if since, ok := t.since(at, known); ok {
			return since.header, nil
		}

		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tokenTimeout)
		defer cancel()

		fresh, shown, err := t.exchange(ctx, repo, c, shown, tried != "")
		if err != nil {
			return "", err
		}

		t.keep(repo, key(repo, shown), fresh)
		t.prove(shown)

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

// exchange fetches a token for what is shown. Where the realm does not take that,
// and the source has a newer one, it is shown once; taken is what was shown last.
// before says that repo has had a token already.
func (t *tokens) exchange(
	ctx context.Context,
	repo policy.Repository,
	c challenge,
	shown credentials.Credentials,
	before bool,
) (fresh token, taken credentials.Credentials, err error) {
	fresh, err = t.fetch(ctx, repo, c, shown)
	if err == nil {
		return fresh, shown, nil
	}
	err = t.refusal(err, shown, before)

	var refused *oci.UpstreamError
	if shown.Empty() || !errors.As(err, &refused) || refused.Status != http.StatusUnauthorized {
		return token{}, shown, err
	}
	newer, unread := t.up.auth.Get(ctx, repo)
	if unread != nil || newer.Empty() || newer == shown {
		return token{}, shown, err
	}
	if fresh, err = t.fetch(ctx, repo, c, newer); err != nil {
		err = t.refusal(err, newer, before)
	}
	return fresh, newer, err
}

// keep caches a token. A full cache starts anew.
func (t *tokens) keep(repo policy.Repository, at string, fresh token) {
	t.mu.Lock()
	defer t.mu.Unlock()

	if len(t.byKey) >= maxTokens || len(t.latest) >= maxTokens {
		clear(t.byKey)
		clear(t.latest)
	}

	t.byKey[at] = fresh
	t.latest[reader(repo)] = at
}

// prove notes credentials that a realm has taken.
func (t *tokens) prove(shown credentials.Credentials) {
	t.mu.Lock()
	defer t.mu.Unlock()

	t.proven, t.provenTill = shown, t.up.now().Add(maxTokenTTL)
}

// since is the token that another flight has fetched after known was looked up.
func (t *tokens) since(at string, known token) (fresh token, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()

	fresh = t.byKey[at]
	return fresh, fresh.header != "" && fresh.header != known.header && t.up.now().Before(fresh.until)
}

// lacksRight reports whether header is a token that a realm has just given for
// credentials. Docker Hub's realm, among others, gives one with fewer rights than
// were asked for: what the registry refuses then is this repository, which may not
// even exist, and not the credentials.
func (t *tokens) lacksRight(repo policy.Repository, header string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()

	at := t.latest[reader(repo)]
	return header != "" && at != repo.Path && t.byKey[at].header == header
}

// refusal is a realm's 401 for what it means: credentials that were good for
// another repository have no right to this one (403). When they were good for
// this very repository before, they are good no longer.
func (t *tokens) refusal(err error, shown credentials.Credentials, before bool) error {
	var refused *realmRefusal
	if !errors.As(err, &refused) {
		return err
	}

	t.mu.Lock()
	defer t.mu.Unlock()

	proven := !shown.Empty() && t.proven == shown && t.up.now().Before(t.provenTill)
	if before {
		t.proven, proven = credentials.Credentials{}, false
	}
	if refused.status == http.StatusForbidden || proven {
		return t.up.refusal(http.StatusForbidden, err)
	}
	t.up.auth.Refused()
	return t.unauthorized(err)
}
