package upstream

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
)

const (
	maxTokenAnswer  = 64 << 10         // bytes
	maxTokens       = 4096             // repositories whose token is remembered
	defaultTokenTTL = 60 * time.Second // distribution's token specification
	maxTokenTTL     = time.Hour
	tokenMargin     = 10 * time.Second // a token is not used to its very end
	tokenTimeout    = 15 * time.Second
)

// tokens remembers what a registry wanted to see, repository by repository.
type tokens struct {
	up      *Upstream
	flights singleflight.Group

	mu    sync.Mutex
	byKey map[string]token
	basic bool // the registry takes Basic itself, for everything
}

type token struct {
	header string
	until  time.Time
}

func newTokens(u *Upstream) *tokens { return &tokens{up: u, byKey: map[string]token{}} }

// remembered is the Authorization header that worked last, if any.
func (t *tokens) remembered(_ context.Context, repo policy.Repository) (string, error) {
	t.mu.Lock()
	known, basic := t.byKey[repo.Path], t.basic
	t.mu.Unlock()
	if basic {
		return t.basicHeader()
	}
	if time.Now().Before(known.until) {
		return known.header, nil
	}
	return "", nil
}

// answer meets a 401's challenge. tried is the header that was refused.
func (t *tokens) answer(
	ctx context.Context,
	repo policy.Repository,
	challenges []string,
	tried string,
) (string, error) {
	if params, ok := challengeOf(challenges, "Bearer"); ok {
		return t.bearer(ctx, repo, params, tried)
	}
	if _, ok := challengeOf(challenges, "Basic"); ok {
		header, err := t.basicHeader()
		if err != nil || header == "" || header == tried {
			return "", t.refusedSecret(err)
		}
		return header, nil
	}
	return "", t.refusedSecret(nil)
}

// challengeOf finds the challenge of one scheme. A token says less than a
// password, so Bearer is looked for first, whatever the registry's order.
func challengeOf(challenges []string, scheme string) (params string, ok bool) {
	for _, c := range challenges {
		if name, params, _ := strings.Cut(c, " "); strings.EqualFold(name, scheme) {
			return params, true
		}
	}
	return "", false
}

// worked notes that the registry takes Basic itself.
func (t *tokens) worked(header string) {
	if strings.HasPrefix(header, "Basic ") {
		t.mu.Lock()
		t.basic = true
		t.mu.Unlock()
	}
}

// refusedSecret is the registry's 401: there is nothing (else) to show.
func (t *tokens) refusedSecret(err error) error {
	if err == nil {
		err = fmt.Errorf("it wants credentials that the gate does not have")
	}
	return &oci.UpstreamError{
		Status:  http.StatusUnauthorized,
		HadAuth: t.up.auth.any(),
		Host:    t.up.host,
		Err:     err,
	}
}

func (t *tokens) basicHeader() (string, error) {
	s, err := t.up.auth.read()
	if err != nil || s.username == "" {
		return "", err
	}
	return basicAuth(s), nil
}

func basicAuth(s secret) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(s.username+":"+s.password))
}

// bearer fetches a token, once however many ask for the repository meanwhile.
func (t *tokens) bearer(ctx context.Context, repo policy.Repository, params, tried string) (string, error) {
	t.mu.Lock()
	known := t.byKey[repo.Path]
	t.mu.Unlock()
	if known.header != "" && known.header != tried && time.Now().Before(known.until) {
		return known.header, nil // somebody else has just fetched it
	}
	made := t.flights.DoChan(repo.Path, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tokenTimeout)
		defer cancel()
		fresh, err := t.fetch(ctx, repo, params)
		if err != nil {
			return "", err
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		if len(t.byKey) >= maxTokens {
			clear(t.byKey)
		}
		t.byKey[repo.Path] = fresh
		return fresh.header, nil
	})
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case r := <-made:
		if r.Err != nil {
			return "", r.Err
		}
		return r.Val.(string), nil
	}
}

// fetch runs the registry token flow (distribution, "Token Authentication"):
// the realm is where the registry says, the scope what this gate needs.
func (t *tokens) fetch(ctx context.Context, repo policy.Repository, params string) (token, error) {
	values := challengeParams(params)
	realm, err := url.Parse(values["realm"])
	if err != nil || realm.Host == "" || realm.Scheme != "https" && realm.Scheme != "http" || realm.User != nil {
		return token{}, t.up.broken("its token realm is no URL")
	}
	if realm.Scheme != "https" && t.up.base.Scheme == "https" {
		return token{}, t.up.broken("its token realm is not https")
	}
	s, err := t.up.auth.read()
	if err != nil {
		return token{}, err
	}
	if !s.empty() && !t.up.auth.mayGoTo(realm) {
		return token{}, t.up.broken(
			"its token realm %s is on another domain; list the host under auth.realms if the credentials may go there",
			realm.Host,
		)
	}
	req, err := tokenRequest(ctx, realm, values["service"], "repository:"+t.up.path(repo)+":pull", s)
	if err != nil {
		return token{}, err
	}
	req.Header.Set("User-Agent", t.up.agent)
	req.Header.Set("Accept-Encoding", "identity")
	transport := t.up.direct
	if !sameOrigin(realm, t.up.base) {
		transport = t.up.away
	}
	resp, err := t.up.seen.roundTrip(
		transport,
		req,
		"token",
	) // redirects are not followed: nobody else gets the credentials
	if err != nil {
		return token{}, err
	}
	defer discard(resp)
	switch {
	case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusForbidden:
		return token{}, t.refusedSecret(fmt.Errorf("its token realm answered %s", statusText(resp)))
	case resp.StatusCode == http.StatusTooManyRequests:
		return token{}, &oci.UpstreamError{
			Status:     resp.StatusCode,
			RetryAfter: retryAfter(resp),
			HadAuth:    t.up.auth.any(),
			Host:       t.up.host,
			Err:        fmt.Errorf("its token realm answered %s", statusText(resp)),
		}
	case resp.StatusCode != http.StatusOK:
		return token{}, fmt.Errorf("token realm %s answered %s", realm.Host, statusText(resp))
	}
	return parseToken(resp.Body)
}

func tokenRequest(ctx context.Context, realm *url.URL, service, scope string, s secret) (*http.Request, error) {
	if s.identityToken != "" { // OAuth 2, as `docker login` leaves it for some registries
		form := url.Values{
			"grant_type":    {"refresh_token"},
			"refresh_token": {s.identityToken},
			"service":       {service},
			"scope":         {scope},
			"client_id":     {"pullgate"},
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, realm.String(), strings.NewReader(form.Encode()))
		if err != nil {
			return nil, fmt.Errorf("build token request: %w", err)
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
		return nil, fmt.Errorf("build token request: %w", err)
	}
	if s.username != "" {
		req.Header.Set("Authorization", basicAuth(s))
	}
	return req, nil
}

func parseToken(body io.Reader) (token, error) {
	var a struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
		ExpiresIn   int64  `json:"expires_in"`
	}
	if err := json.NewDecoder(io.LimitReader(body, maxTokenAnswer)).Decode(&a); err != nil {
		return token{}, fmt.Errorf("the token answer is not JSON") // never quoted: it holds the token
	}
	text := a.Token
	if text == "" {
		text = a.AccessToken
	}
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return token{}, fmt.Errorf("the token answer holds no token")
	}
	ttl := defaultTokenTTL
	if a.ExpiresIn > 0 {
		ttl = min(time.Duration(min(a.ExpiresIn, int64(maxTokenTTL/time.Second)))*time.Second, maxTokenTTL)
	}
	return token{header: "Bearer " + text, until: time.Now().Add(max(ttl-tokenMargin, ttl/2))}, nil
}

var challengeParam = regexp.MustCompile(`([a-zA-Z]+)\s*=\s*(?:"([^"]*)"|([^\s,"]+))`)

// challengeParams reads a challenge's parameters (RFC 9110, section 11.4); the
// first of each name counts.
func challengeParams(s string) map[string]string {
	values := map[string]string{}
	for _, m := range challengeParam.FindAllStringSubmatch(s[:min(len(s), 4096)], 32) {
		name := strings.ToLower(m[1])
		if _, twice := values[name]; !twice {
			values[name] = m[2] + m[3]
		}
	}
	return values
}
