package upstream

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
)

const (
	maxLocation = 8 << 10 // bytes of a URL that is handed on; signed ones have some 2,000
	leastSecret = 8       // bytes of a secret that a URL is searched for
)

// handOn turns a registry's redirect into the answer itself: a 307 whose Location
// is absolute, is no less protected than the registry, and holds nothing that the
// registry was shown. The client asks there by itself, so that no header of this
// answer's but Location means anything.
func (u *Upstream) handOn(from *url.URL, resp *http.Response, shown string) (*http.Response, error) {
	said := resp.Header.Get("Location")
	at, err := u.target(from, resp)
	if err != nil {
		return nil, err
	}

	at.Fragment, at.RawFragment = "", ""
	text := at.String()
	odd := func(r rune) bool { return r <= ' ' || r > '~' || r == '\\' }
	switch {
	case len(text) > maxLocation:
		return nil, u.broken("it redirects to a URL of %d bytes", len(text))
	case strings.ContainsFunc(said, odd), strings.ContainsFunc(text, odd):
		return nil, u.broken("it redirects to a URL with characters that no URL has")
	case refuseLiteral(at.Hostname(), u.ways.mostAt(at.Host)) != nil:
		return nil, u.broken("it redirects to an internal address")
	case reveals(text, shown):
		return nil, u.broken("it redirects to a URL that holds the gate's credentials")
	}

	return &http.Response{
		StatusCode: http.StatusTemporaryRedirect,
		Header:     http.Header{"Location": {text}},
		Body:       http.NoBody,
		Request:    resp.Request,
	}, nil
}

// reveals reports whether a URL holds what an Authorization header shows, as it is
// or encoded.
func reveals(location, authorization string) bool {
	scheme, secret, _ := strings.Cut(authorization, " ")
	secrets := []string{secret}
	if pair, err := base64.StdEncoding.DecodeString(secret); err == nil && scheme == "Basic" {
		_, password, _ := strings.Cut(string(pair), ":")
		secrets = append(secrets, string(pair), password)
	}

	spellings := []string{location}
	if plain, err := url.QueryUnescape(location); err == nil {
		spellings = append(spellings, plain)
	}
	if plain, err := url.PathUnescape(location); err == nil {
		spellings = append(spellings, plain)
	}
	for _, s := range secrets {
		for _, text := range spellings {
			if len(s) >= leastSecret && strings.Contains(text, s) {
				return true
			}
		}
	}
	return false
}
