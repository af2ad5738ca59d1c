package upstream

import (
	"fmt"
	"net/http"
	"sync"
)

func wants(w http.ResponseWriter, text string) {
	w.Header().Set("WWW-Authenticate", text)
	w.WriteHeader(http.StatusUnauthorized)
}

func bearer(realm string) string {
	return fmt.Sprintf(`Bearer realm="%s",service="registry.example"`, realm)
}

// tokenRegistry is a registry that wants the token a realm hands out. realm ""
// means its own /token. Zero tokens are valid until issue is called.
type tokenRegistry struct {
	mu     sync.Mutex
	valid  string
	issued int
	answer func(n int) string // the token answer's body; nil: a plain one
	realm  string
	scope  string // of its challenge
}

func (r *tokenRegistry) issue(w http.ResponseWriter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.issued++
	r.valid = fmt.Sprintf("token-%s-%d", mark, r.issued)
	w.Header().Set("Content-Type", "application/json")
	if r.answer != nil {
		_, _ = w.Write([]byte(r.answer(r.issued)))
		return
	}
	_, _ = fmt.Fprintf(w, `{"token":%q,"expires_in":300}`, r.valid)
}

// revoke makes every token issued so far an old one.
func (r *tokenRegistry) revoke() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.valid = ""
}

func (r *tokenRegistry) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.issued
}

func (r *tokenRegistry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	if q.URL.Path == "/token" {
		r.issue(w)
		return
	}
	r.mu.Lock()
	ok := r.valid != "" && q.Header.Get("Authorization") == "Bearer "+r.valid
	r.mu.Unlock()
	if !ok {
		realm := r.realm
		if realm == "" {
			scheme := "http"
			if q.TLS != nil {
				scheme = "https"
			}
			realm = scheme + "://" + q.Host + "/token"
		}
		text := bearer(realm)
		if r.scope != "" {
			text += `,scope="` + r.scope + `"`
		}
		wants(w, text)
		return
	}
	sendManifest(w, someBytes)
}

// withToken passes only requests with the token on to next; every client can have
// the token.
func withToken(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		scheme := "http"
		if q.TLS != nil {
			scheme = "https"
		}
		switch {
		case q.URL.Path == "/token":
			_, _ = w.Write([]byte(`{"token":"token-` + mark + `"}`))
		case q.Header.Get("Authorization") != "Bearer token-"+mark:
			wants(w, bearer(scheme+"://"+q.Host+"/token"))
		default:
			next(w, q)
		}
	}
}

// orToken answers /token with a token, and passes other requests on to next.
func orToken(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/token" {
			_, _ = w.Write([]byte(`{"token":"token-` + mark + `"}`))
			return
		}
		next(w, q)
	}
}
