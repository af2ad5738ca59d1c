package profiles

import (
	"net/http"
	"net/url"
	"strings"
)

// Kind is what a registry wants to be shown.
type Kind int

// The kinds of challenges.
const (
	None        Kind = iota // everything is readable
	Bearer                  // a token of the realm
	Basic                   // the password itself
	BasicOnShow             // a token; the password once a token was shown that is not good enough (Harbor)
	OneField                // either, both challenges in one field
	TwoFields               // either, each challenge in a field of its own
)

// Challenge is a registry's 401.
type Challenge struct {
	Kind    Kind
	Scheme  string // as it is spelled; empty: Bearer or Basic
	Realm   string // URL of the token service, or a text where passwords are wanted
	Service string // empty: left out
	Silent  bool   // only /v2/ says it: on other requests the 401 has no challenge
	Form    Form   // of the body
}

// wantsToken reports whether a realm gives out tokens for the registry.
func (c Challenge) wantsToken() bool { return c.Kind != None && c.Kind != Basic }

// wantsPassword reports whether the registry itself takes a password.
func (c Challenge) wantsPassword() bool {
	return c.Kind == Basic || c.Kind == OneField || c.Kind == TwoFields
}

// realm is where tokens are given out; nil: nowhere.
func (c Challenge) realm() *url.URL {
	if !c.wantsToken() {
		return nil
	}
	at, err := url.Parse(c.Realm)
	if err != nil {
		return nil
	}
	return at
}

// fields are the values of WWW-Authenticate; shown says that the request had an
// Authorization header. scope may be empty.
func (c Challenge) fields(scope string, shown bool) []string {
	switch c.Kind {
	case None:
		return nil
	case Basic:
		return []string{c.spell("Basic", "")}
	case BasicOnShow:
		if shown {
			return []string{`Basic realm="harbor"`}
		}
	case OneField:
		return []string{`Basic realm="x", ` + c.spell("Bearer", scope)}
	case TwoFields:
		return []string{`Basic realm="x"`, c.spell("Bearer", scope)}
	case Bearer:
	}
	return []string{c.spell("Bearer", scope)}
}

func (c Challenge) spell(scheme, scope string) string {
	if c.Scheme != "" {
		scheme = c.Scheme
	}

	params := []string{`realm="` + c.Realm + `"`}
	if c.Service != "" {
		params = append(params, `service="`+c.Service+`"`)
	}
	if scope != "" {
		params = append(params, `scope="`+scope+`"`)
	}
	return scheme + " " + strings.Join(params, ",")
}

// Absent is what a client sees of a repository that it may not read, and of one
// that does not exist.
type Absent struct {
	Unreadable Refusal // of a client whose token, or password, is good for others; 401 has a challenge
	Missing    Refusal // left out: 404 NAME_UNKNOWN
	Tag        Refusal // a tag that does not exist; left out: 404 MANIFEST_UNKNOWN

	// Hidden: a repository that does not exist looks like one that may not be read.
	Hidden bool
}

var (
	noSuchRepository = Refusal{Status: http.StatusNotFound, Code: "NAME_UNKNOWN"}
	unauthorized     = Refusal{Status: http.StatusUnauthorized, Code: "UNAUTHORIZED"}
	denied           = Refusal{Status: http.StatusForbidden, Code: "DENIED"}
)

// challenge answers 401.
func (r *Registry) challenge(w http.ResponseWriter, req *http.Request, repository string) {
	c := r.profile.Challenge
	front := repository == ""
	shown := req.Header.Get("Authorization") != ""
	if shown {
		r.mu.Lock()
		r.refused++
		r.mu.Unlock()
	}

	if front || !c.Silent {
		scope := ""
		if !front {
			scope = "repository:" + repository + ":pull"
		}
		for _, field := range c.fields(scope, shown) {
			w.Header().Add("WWW-Authenticate", field)
		}
	}

	refusal := unauthorized
	refusal.Form = c.Form
	refusal.write(w)
}

// admit reports whether a request may see the repository, and answers it if not.
func (r *Registry) admit(w http.ResponseWriter, req *http.Request, repository string) bool {
	c := r.profile.Challenge
	shown := req.Header.Get("Authorization")
	user, password, isBasic := req.BasicAuth()
	token, isToken := strings.CutPrefix(shown, "Bearer ")

	var reads bool
	switch {
	case c.Kind == None:
		reads = r.readable(repository, guest)
	case isToken && c.wantsToken() && r.issued(token):
		reads = r.grants(token, repository)
	case isBasic && c.wantsPassword() && user == User && password == r.Secret():
		reads = r.readable(repository, account)
	case isBasic && c.Kind == Basic && r.expiredIs403(user): // Amazon's word for a password that has ended
		denied.write(w)
		return false
	default:
		r.challenge(w, req, repository)
		return false
	}

	switch {
	case reads:
		return true
	case !r.exists(repository) && !r.profile.Absent.Hidden:
		r.profile.Absent.Missing.or(noSuchRepository).write(w)
	case r.profile.Absent.Unreadable.Status == http.StatusUnauthorized:
		r.challenge(w, req, repository)
	default:
		r.profile.Absent.Unreadable.or(denied).write(w)
	}
	return false
}
