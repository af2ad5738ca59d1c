// Package clients says who sent a request to the pull port: where from, and
// under which name. There is one file for each way to show a name (basic.go,
// mtls.go, oidc.go), one for the address (address.go), and this one for all of
// them together. It must not know policies, images or answers; package proxy
// writes those.
//
// A client is known, refused, or neither: what kept the gate from telling is an
// error of another type and becomes a 503, never a 401.
package clients

import (
	"net/http"
	"time"

	"github.com/pullgate/pullgate/policy"
)

// Config is what an Authenticator is made of. Without any of the ways, every
// client is let in and has no name.
type Config struct {
	Passwords    *Passwords    // nil: no client has a password
	Certificates *Certificates // nil: certificates are not looked at
	Tokens       *Tokens       // nil: no password is a token

	Proxies Proxies

	Now func() time.Time // nil: time.Now
}

// Authenticator knows clients under one configuration. It is immutable and safe
// for concurrent use; a reload makes a new one.
type Authenticator struct {
	config    Config
	challenge string
	ask       string // what a client that has shown nothing is told
}

// New makes an Authenticator.
func New(c Config) *Authenticator {
	if c.Now == nil {
		c.Now = time.Now
	}

	a := &Authenticator{config: c, ask: "this gate wants to know who asks: "}
	if c.Passwords != nil || c.Tokens != nil {
		a.challenge = `Basic realm="pullgate"` // a Bearer challenge would send clients to a token server
	}
	switch {
	case c.Passwords != nil && c.Tokens != nil:
		a.ask += "log in with user and password, or with a token as the password"
	case c.Passwords != nil:
		a.ask += "log in with user and password"
	case c.Tokens != nil:
		a.ask += "log in with a token as the password"
	case c.Certificates != nil:
		a.ask += "show a client certificate that its certificate authority has issued"
		return a
	}
	if c.Certificates != nil {
		a.ask += ", or show a client certificate"
	}
	return a
}

// Names reports whether clients have to show a name.
func (a *Authenticator) Names() bool {
	return a.config.Passwords != nil || a.config.Certificates != nil || a.config.Tokens != nil
}

// Authenticate says who sent r. It reads no body. Errors: a *RefusedError, a
// *BusyError, a *ForwardedError; anything else is "could not tell". The client's
// address is known also with the first two.
func (a *Authenticator) Authenticate(r *http.Request) (policy.Client, error) {
	addr, proxied, err := a.config.Proxies.address(r)
	client := policy.Client{Addr: addr}
	if err != nil || !a.Names() {
		return client, err
	}

	name, err := a.name(r, client, proxied)
	if err != nil {
		return client, err
	}
	client.Name = name
	return client, nil
}

// name is the name that r shows. What stands in the Authorization header goes
// before a certificate, which a node shows for every pull of its own. Passwords
// and tokens count over TLS, from this machine, and from a trusted proxy, which
// has ended TLS itself.
func (a *Authenticator) name(r *http.Request, client policy.Client, proxied bool) (string, error) {
	if a.challenge != "" && len(r.Header["Authorization"]) > 0 {
		if r.TLS == nil && !proxied && !isLoopback(client.Addr) {
			return "", a.refused("passwords and tokens are not taken over plain http: "+
				"ask by https, or through the proxy in front of this gate", nil)
		}
		return a.authorized(r, client)
	}
	return a.certified(r)
}

// certified is the name that the connection's certificate proves.
func (a *Authenticator) certified(r *http.Request) (string, error) {
	if a.config.Certificates == nil || r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return "", &RefusedError{Text: a.ask, Challenge: a.challenge}
	}
	name, err := a.config.Certificates.name(r.Context(), r.TLS.PeerCertificates, a.config.Now())
	return name, a.explained(err)
}

// authorized is the name that the Authorization header proves.
func (a *Authenticator) authorized(r *http.Request, client policy.Client) (string, error) {
	user, password, ok := r.BasicAuth()
	if ok && user == "" && password == "" { // skopeo and podman show that when they have been told nothing to show
		return a.certified(r)
	}
	if !ok || len(r.Header["Authorization"]) > 1 {
		return "", a.refused("the Authorization header is not one of user and password (Basic)", nil)
	}

	if a.config.Tokens != nil && (a.config.Passwords == nil || isToken(password)) {
		name, err := a.config.Tokens.name(r.Context(), password, a.config.Now())
		return name, a.explained(err)
	}
	name, err := a.config.Passwords.name(r.Context(), client, user, password)
	return name, a.explained(err)
}

// explained turns a way's refusal into the client's answer.
func (a *Authenticator) explained(err error) error {
	if why, ok := err.(*wrong); ok { //nolint:errorlint // the ways return it as it is
		return a.refused(why.text, why.cause)
	}
	return err
}

func (a *Authenticator) refused(text string, cause error) *RefusedError {
	return &RefusedError{
		Text:      text,
		Challenge: a.challenge,
		Shown:     true,
		cause:     cause,
	}
}
