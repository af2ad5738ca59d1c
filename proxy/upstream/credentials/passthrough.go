package credentials

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/pullgate/pullgate/policy"
)

const (
	// maxAuthorization bounds a client's header, in bytes.
	maxAuthorization = 16 << 10

	// scopeLinger is how long a client's credentials are held after its last
	// request: what was begun for it may still ask the registry.
	scopeLinger = 2 * time.Minute

	// maxScopes bounds the clients whose credentials are held at once.
	maxScopes = 10_000
)

var (
	// ErrAuthorization is the error for a client's header that shows no
	// credentials which can be passed on.
	ErrAuthorization = errors.New("the Authorization header holds neither a user with a password nor a token")

	errScopes = errors.New("too many clients pass their credentials through at once")
	errScope  = errors.New("the client whose credentials these are has left")
)

// Passthrough is the source of a registry that is shown each client's own
// credentials. A client's scope stands for them: policy.Repository carries it,
// and with it every key of memory and flights.
type Passthrough struct {
	key []byte // of this process: a scope is no hash that a list of passwords could be held against

	mu     sync.Mutex
	scopes map[string]*scope
}

// scope is one client's credentials, while it has requests.
type scope struct {
	shown    Credentials
	requests int
	end      *time.Timer // after the last one
}

// NewPassthrough makes a source that knows no client yet.
func NewPassthrough() *Passthrough {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // which never fails
	return &Passthrough{key: key, scopes: map[string]*scope{}}
}

// Enter takes what a client's Authorization header shows, and returns the scope
// that stands for it until leave is called. Without a header the scope is empty:
// the registry is asked as anyone would. The error is ErrAuthorization, or that
// there are too many clients.
func (p *Passthrough) Enter(authorization string) (name string, leave func(), err error) {
	if authorization == "" {
		return "", func() {}, nil
	}
	shown, err := parseAuthorization(authorization)
	if err != nil {
		return "", nil, err
	}
	sum := hmac.New(sha256.New, p.key)
	_, _ = sum.Write([]byte(authorization))
	name = hex.EncodeToString(sum.Sum(nil))

	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.scopes[name]
	if s == nil {
		if len(p.scopes) >= maxScopes {
			return "", nil, errScopes
		}
		s = &scope{shown: shown}
		p.scopes[name] = s
	}
	if s.requests++; s.end != nil {
		s.end.Stop()
	}
	return name, func() { p.leave(name, s) }, nil
}

func (p *Passthrough) leave(name string, s *scope) {
	p.mu.Lock()
	defer p.mu.Unlock()

	if s.requests--; s.requests > 0 {
		return
	}
	s.end = time.AfterFunc(scopeLinger, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if s.requests == 0 && p.scopes[name] == s {
			delete(p.scopes, name)
		}
	})
}

// Get returns the credentials of the client for whom a repository is read.
func (p *Passthrough) Get(_ context.Context, repository policy.Repository) (Credentials, error) {
	if repository.Scope == "" {
		return Credentials{}, nil
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.scopes[repository.Scope]; s != nil {
		return s.shown, nil
	}
	return Credentials{}, errScope
}

// Configured is false: the gate has none of its own.
func (*Passthrough) Configured() bool { return false }

// Refused does nothing: the client has to show others.
func (*Passthrough) Refused() {}

// parseAuthorization reads a client's header (RFC 7617, RFC 6750).
func parseAuthorization(header string) (Credentials, error) {
	scheme, text, _ := strings.Cut(header, " ")
	text = strings.TrimSpace(text)
	if len(header) > maxAuthorization {
		return Credentials{}, ErrAuthorization
	}

	switch {
	case strings.EqualFold(scheme, "Basic"):
		plain, err := base64.StdEncoding.DecodeString(text)
		user, password, ok := strings.Cut(string(plain), ":")
		if err != nil || !ok || !isShowable(user) || !isShowable(password) {
			return Credentials{}, ErrAuthorization
		}
		return Credentials{Username: user, Password: password}, nil
	case strings.EqualFold(scheme, "Bearer"):
		if text == "" || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return Credentials{}, ErrAuthorization
		}
		return Credentials{Token: text}, nil
	}
	return Credentials{}, ErrAuthorization
}
