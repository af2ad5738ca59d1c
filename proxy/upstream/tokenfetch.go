package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy/upstream/credentials"
)

const (
	maxTokenAnswer  = 64 << 10         // bytes
	defaultTokenTTL = 60 * time.Second // distribution's token specification
	maxTokenTTL     = time.Hour
	tokenMargin     = 10 * time.Second // a token is not used up to its very end
)

// fetch gets a token for repo (distribution, "Token Authentication"). The
// challenge names the realm; the scope is always pull of this repository,
// whatever the challenge says.
func (t *tokens) fetch(ctx context.Context, repo policy.Repository, params string) (token, error) {
	values := challengeParams(params)
	realm, err := t.realm(values["realm"])
	if err != nil {
		return token{}, err
	}

	shown, err := t.up.auth.Get(ctx, repo)
	if err != nil {
		return token{}, err
	}

	if !shown.Empty() && !t.up.realms.allow(realm) {
		return token{}, t.up.broken(
			"its token realm %s is on another domain; list the host under auth.realms if the credentials may go there",
			realm.Host,
		)
	}

	req, err := tokenRequest(ctx, realm, values["service"], "repository:"+t.up.path(repo)+":pull", shown)
	if err != nil {
		return token{}, fmt.Errorf("build token request: %w", err)
	}

	req.Header.Set("User-Agent", t.up.agent)
	req.Header.Set("Accept-Encoding", "identity")

	// A round trip follows no redirect, so that no other host gets the credentials.
	resp, err := t.up.obs.roundTrip(t.up.transport(realm), req, "token")
	if err != nil {
		return token{}, err
	}
	defer discard(resp)

	if err := t.refusedToken(realm, resp); err != nil {
		return token{}, err
	}

	return parseToken(resp.Body)
}

// realm parses a challenge's realm. A registry with TLS has a realm with TLS.
func (t *tokens) realm(text string) (*url.URL, error) {
	realm, err := url.Parse(text)
	if err != nil || realm.Host == "" || realm.Scheme != "https" && realm.Scheme != "http" || realm.User != nil {
		return nil, t.up.broken("its token realm is no URL")
	}

	if realm.Scheme != "https" && t.up.base.Scheme == "https" {
		return nil, t.up.broken("its token realm is not https")
	}

	return realm, nil
}

// refusedToken turns a realm's answer into an error, unless its status is 200.
func (t *tokens) refusedToken(realm *url.URL, resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusUnauthorized, http.StatusForbidden:
		return t.unauthorized(fmt.Errorf("its token realm answered %s", statusText(resp)))
	case http.StatusTooManyRequests:
		e := t.up.failure(resp.StatusCode, fmt.Errorf("its token realm answered %s", statusText(resp)))
		e.RetryAfter = retryAfter(resp)

		return e
	}

	return fmt.Errorf("token realm %s answered %s", realm.Host, statusText(resp))
}

// tokenRequest asks realm for a token: an identity token is posted as OAuth 2
// wants it (what `docker login` stores for some registries), and everything else
// is a GET, with a password if there is one.
func tokenRequest(
	ctx context.Context,
	realm *url.URL,
	service, scope string,
	shown credentials.Credentials,
) (*http.Request, error) {
	if shown.IdentityToken != "" {
		form := url.Values{
			"grant_type":    {"refresh_token"},
			"refresh_token": {shown.IdentityToken},
			"service":       {service},
			"scope":         {scope},
			"client_id":     {"pullgate"},
		}

		req, err := http.NewRequestWithContext(ctx, http.MethodPost, realm.String(), strings.NewReader(form.Encode()))
		if err != nil {
			return nil, err
		}

		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")

		return req, nil
	}

	at := *realm
	query := at.Query()
	if service != "" {
		query.Set("service", service)
	}
	query.Set("scope", scope)
	at.RawQuery = query.Encode()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}

	if shown.Username != "" {
		req.Header.Set("Authorization", basicAuth(shown))
	}

	return req, nil
}

// parseToken reads a realm's answer. No error quotes it: it may hold the token.
func parseToken(body io.Reader) (token, error) {
	var answer struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
		ExpiresIn   int64  `json:"expires_in"` // seconds
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

	ttl := defaultTokenTTL
	if answer.ExpiresIn > 0 {
		ttl = time.Duration(min(answer.ExpiresIn, int64(maxTokenTTL/time.Second))) * time.Second
	}

	return token{header: "Bearer " + text, until: time.Now().Add(max(ttl-tokenMargin, ttl/2))}, nil
}
