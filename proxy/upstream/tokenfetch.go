package upstream

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy/upstream/credentials"
)

const (
	maxTokenAnswer = 64 << 10 // bytes
	maxTokenTTL    = time.Hour
	tokenMargin    = 10 * time.Second // a token is not used up to its very end

	// defaultTokenTTL is for answers that do not say how long a token lives, as
	// those of Quay, Azure and GitHub. Distribution's specification means 60 s; a
	// token that ends sooner is refused, and then replaced.
	defaultTokenTTL = 5 * time.Minute
)

// fetch gets a token for repo (distribution, "Token Authentication"). The
// challenge names the realm and, where it names a repository to pull from, the
// scope: behind a gateway only the token service knows the name by which it
// knows the repository. Without one it is the repository that the gate asks for.
// Whatever the challenge says, the token is for pulling.
func (t *tokens) fetch(
	ctx context.Context,
	repo policy.Repository,
	c challenge,
	shown credentials.Credentials,
) (token, error) {
	realm, err := t.up.realm(t.up.base, c)
	if err != nil {
		return token{}, err
	}

	if !shown.Empty() && !t.up.realms.allow(realm) {
		return token{}, t.up.broken(
			"its token realm %s is on another domain; list the host under auth.realms if the credentials may go there",
			realm.Host,
		)
	}
	if err := t.up.paused(tokenLane); err != nil {
		return token{}, err
	}

	ask := tokenQuestion{
		realm:   realm,
		service: c.params["service"],
		scope:   c.pullScope(),
		shown:   shown,
		lane:    tokenLane,
	}
	if ask.scope == "" {
		ask.scope = "repository:" + t.up.path(repo) + ":pull"
	}

	fresh, err := t.up.askToken(ctx, ask)
	if shown.IdentityToken != "" && ask.wantsGet(err) {
		ask.byGet = true
		fresh, err = t.up.askToken(ctx, ask)
	}
	return fresh, err
}

// guestToken is a token for anybody, of the realm that a host names to which the
// registry redirects. The realm is on that host's own domain, and is shown none
// of the registry's credentials.
func (u *Upstream) guestToken(ctx context.Context, at *url.URL, c challenge) (token, error) {
	realm, err := u.realm(at, c)
	if err != nil {
		return token{}, err
	}
	if !(realms{base: at}).allow(realm) {
		return token{}, u.broken("the host it redirects to names a token realm on another domain, %s", realm.Host)
	}

	return u.askToken(ctx, tokenQuestion{
		realm:   realm,
		service: c.params["service"],
		scope:   c.pullScope(),
		lane:    "guest of " + realm.Host,
	})
}

// tokenQuestion is what a realm is asked.
type tokenQuestion struct {
	realm          *url.URL
	service, scope string // empty: left out
	shown          credentials.Credentials
	byGet          bool   // an identity token goes as a password
	lane           string // that a 429 pauses
}

// realmRefusal is a realm's 401 or 403.
type realmRefusal struct{ status int }

func (r *realmRefusal) Error() string {
	return fmt.Sprintf("its token realm answered %d %s", r.status, http.StatusText(r.status))
}

// wantsGet reports the answers of token services that take an identity token as
// a password only: Google's says 404 to a POST, Artifactory's 401.
func (q tokenQuestion) wantsGet(err error) bool {
	var answered *realmStatus
	var refused *realmRefusal
	switch {
	case errors.As(err, &refused):
		return refused.status == http.StatusUnauthorized
	case errors.As(err, &answered):
		return answered.status == http.StatusBadRequest ||
			answered.status == http.StatusNotFound ||
			answered.status == http.StatusMethodNotAllowed
	}
	return false
}

// realmStatus is a realm's answer that says nothing about credentials.
type realmStatus struct {
	realm  string
	status int
}

func (r *realmStatus) Error() string {
	return fmt.Sprintf("token realm %s answered %d %s", r.realm, r.status, http.StatusText(r.status))
}

// askToken sends one request to a realm. A round trip follows no redirect, so
// that no other host gets the credentials.
func (u *Upstream) askToken(ctx context.Context, q tokenQuestion) (token, error) {
	req, err := q.request(ctx)
	if err != nil {
		return token{}, fmt.Errorf("build token request: %w", err)
	}

	req.Header.Set("User-Agent", u.agent)
	req.Header.Set("Accept-Encoding", "identity")

	resp, err := u.persist(ctx, req.Method, func() (*http.Response, error) {
		return u.obs.roundTrip(u.transport(q.realm), req, "token")
	})
	if err != nil {
		return token{}, err
	}
	defer discard(resp)

	switch resp.StatusCode {
	case http.StatusOK:
		return parseToken(resp.Body, u.now())
	case http.StatusUnauthorized, http.StatusForbidden:
		return token{}, &realmRefusal{status: resp.StatusCode}
	case http.StatusTooManyRequests:
		return token{}, u.limited(q.lane, resp, fmt.Errorf("its token realm answered %s", statusText(resp)))
	}
	return token{}, &realmStatus{realm: q.realm.Host, status: resp.StatusCode}
}

// realm parses the realm of a challenge that came from at. What speaks TLS has a
// realm with TLS.
func (u *Upstream) realm(at *url.URL, c challenge) (*url.URL, error) {
	realm, err := url.Parse(c.params["realm"])
	if err != nil || realm.Host == "" || realm.Scheme != "https" && realm.Scheme != "http" || realm.User != nil {
		return nil, u.broken("its token realm is no URL")
	}

	if realm.Scheme != "https" && at.Scheme == "https" {
		return nil, u.broken("its token realm is not https")
	}

	return realm, nil
}

// request asks a realm for a token: an identity token is posted as OAuth 2 wants
// it (what `docker login` stores for some registries), and everything else is a
// GET, with a password if there is one.
func (q tokenQuestion) request(ctx context.Context) (*http.Request, error) {
	if q.shown.IdentityToken != "" && !q.byGet {
		form := url.Values{
			"grant_type":    {"refresh_token"},
			"refresh_token": {q.shown.IdentityToken},
			"service":       {q.service},
			"scope":         {q.scope},
			"client_id":     {"pullgate"},
		}

		req, err := http.NewRequestWithContext(ctx, http.MethodPost, q.realm.String(), strings.NewReader(form.Encode()))
		if err != nil {
			return nil, err
		}

		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")

		return req, nil
	}

	at := *q.realm
	query := at.Query()
	if q.service != "" {
		query.Set("service", q.service)
	}
	if q.scope != "" {
		query["scope"] = strings.Fields(q.scope) // several are parameters of their own
	}
	at.RawQuery = query.Encode()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}

	if header := q.password(); header != "" {
		req.Header.Set("Authorization", header)
	}

	return req, nil
}

// password is how a realm is shown the credentials by GET; empty: there are none.
func (q tokenQuestion) password() string {
	if q.shown.IdentityToken == "" {
		return basicOf(q.shown)
	}

	user := q.shown.Username
	if user == "" {
		user = "<token>" // what Docker's helpers call such a secret
	}
	return basicAuth(user, q.shown.IdentityToken)
}

// parseToken reads a realm's answer. No error quotes it: it may hold the token.
func parseToken(body io.Reader, now time.Time) (token, error) {
	var answer struct {
		Token       string          `json:"token"`
		AccessToken string          `json:"access_token"`
		ExpiresIn   json.RawMessage `json:"expires_in"` // seconds
	}
	if err := json.NewDecoder(io.LimitReader(body, maxTokenAnswer)).Decode(&answer); err != nil {
		return token{}, errors.New("the token answer is not JSON")
	}

	text := answer.Token
	if text == "" {
		text = answer.AccessToken
	}

	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return token{}, errors.New("the token answer holds no token")
	}

	ttl := min(statedTTL(answer.ExpiresIn), ownTTL(text, now))
	return token{header: "Bearer " + text, until: now.Add(max(ttl-tokenMargin, ttl/2))}, nil
}

// statedTTL is how long a token lives by its answer's expires_in, which services
// leave out, or send as a text or a fraction.
func statedTTL(expiresIn json.RawMessage) time.Duration {
	seconds, err := strconv.ParseFloat(strings.Trim(string(expiresIn), `"`), 64)
	if err != nil || !(seconds > 0) {
		return defaultTokenTTL
	}
	if seconds > maxTokenTTL.Seconds() {
		return maxTokenTTL
	}
	return time.Duration(seconds * float64(time.Second))
}

// ownTTL is how long a token lives by its own word, where it is a JWT. It is not
// verified: it can only make the gate ask for a new one sooner.
func ownTTL(text string, now time.Time) time.Duration {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return maxTokenTTL
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return maxTokenTTL
	}

	var claims struct {
		Expires float64 `json:"exp"` // seconds since 1970
		Issued  float64 `json:"iat"`
	}
	if json.Unmarshal(payload, &claims) != nil || claims.Expires <= 0 {
		return maxTokenTTL
	}

	from := claims.Issued // the service's clock, which may not be this machine's
	if from <= 0 || from > claims.Expires {
		from = float64(now.Unix())
	}
	seconds := min(max(claims.Expires-from, 1), maxTokenTTL.Seconds())
	return time.Duration(seconds * float64(time.Second))
}
