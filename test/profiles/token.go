package profiles

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Tokens is how a realm gives out tokens.
type Tokens struct {
	Fields string        // that hold the token, parted by spaces; empty: token
	Says   string        // expires_in, as JSON; empty: left out
	Life   time.Duration // how long one is taken; 0: five minutes
	JWT    bool          // one says itself when it ends

	// Issued is issued_at, counted from now; nil: left out. The clocks of services
	// differ from the gate's.
	Issued *time.Duration

	Post int // status of a POST; 0: it is as good as a GET

	// Status of the realm for a repository that a guest, or the account, may not
	// read; 0: it gives out a token with fewer rights.
	RefusesGuest, RefusesAccount int
}

// token is one that was given out.
type token struct {
	repositories map[string]bool
	ends         time.Time
	generation   int
}

// who asks.
type who int

const (
	guest who = iota
	account
)

// realm answers a token request.
func (r *Registry) realm(w http.ResponseWriter, req *http.Request) {
	tokens := r.profile.Tokens
	if err := req.ParseForm(); err != nil {
		Refusal{Status: http.StatusBadRequest}.write(w)
		return
	}
	if service, given := req.Form["service"]; given != (r.profile.Challenge.Service != "") ||
		given && service[0] != r.profile.Challenge.Service {
		Refusal{Status: http.StatusBadRequest, Code: "UNKNOWN_SERVICE"}.write(w)
		return
	}
	if req.Method == http.MethodPost && tokens.Post != 0 {
		Refusal{Status: tokens.Post, Code: "UNSUPPORTED"}.write(w)
		return
	}

	asks := guest
	secret, shown := req.PostForm.Get("refresh_token"), req.Method == http.MethodPost
	if _, password, ok := req.BasicAuth(); ok {
		secret, shown = password, true
	}
	if shown {
		if secret != r.Secret() {
			unauthorized.write(w)
			return
		}
		asks = account
	}

	granted := map[string]bool{}
	for _, scope := range req.Form["scope"] {
		repository := strings.TrimSuffix(strings.TrimPrefix(scope, "repository:"), ":pull")
		if r.readable(repository, asks) || !r.exists(repository) && !r.profile.Absent.Hidden {
			granted[repository] = r.exists(repository)
			continue
		}
		if status := map[who]int{guest: tokens.RefusesGuest, account: tokens.RefusesAccount}[asks]; status != 0 {
			Refusal{Status: status, Code: "DENIED"}.write(w)
			return
		}
	}

	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(r.issue(granted)) // a client that left needs no answer
}

// issue makes a token, and the realm's answer that holds it.
func (r *Registry) issue(granted map[string]bool) map[string]any {
	tokens, now := r.profile.Tokens, r.now()
	life := tokens.Life
	if life == 0 {
		life = 5 * time.Minute
	}

	text := "token-" + Mark + "-" + rand.Text()
	if tokens.JWT {
		claims := fmt.Sprintf(`{"jti":%q,"iat":%d,"exp":%d}`, text, now.Unix(), now.Add(life).Unix())
		text = part(`{"alg":"RS256"}`) + "." + part(claims) + "." + part(text)
	}
	r.mu.Lock()
	r.tokens[text] = token{repositories: granted, ends: now.Add(life), generation: r.generation}
	r.mu.Unlock()

	fields := strings.Fields(tokens.Fields)
	if len(fields) == 0 {
		fields = []string{"token"}
	}
	answer := map[string]any{}
	for _, field := range fields {
		answer[field] = text
	}
	if tokens.Says != "" {
		answer["expires_in"] = json.RawMessage(tokens.Says)
	}
	if tokens.Issued != nil {
		answer["issued_at"] = now.Add(*tokens.Issued).UTC().Format(time.RFC3339)
	}
	return answer
}

func part(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// issued reports whether a token is one that the registry takes now.
func (r *Registry) issued(text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, ok := r.tokens[text]
	return ok && t.generation == r.generation && r.now().Before(t.ends)
}

// grants reports whether a token is for a repository.
func (r *Registry) grants(text, repository string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tokens[text].repositories[repository]
}

// Rotate makes the registry refuse every token that was given out so far, as
// after a change of its key.
func (r *Registry) Rotate() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.generation++
}
