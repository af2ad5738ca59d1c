package clients

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
)

const (
	maxToken     = 16 << 10 // bytes
	maxTokens    = 10_000   // that are remembered
	tokenDepth   = 16       // of its JSON
	tokenNumber  = 2000     // of JSON tokens in it
	refusedToken = "the token was refused: "
)

// TokenConfig says whose tokens count, and for whom they have to be.
type TokenConfig struct {
	Issuer   string
	Audience string
	Keys     *Keys
}

// Tokens knows clients by the OpenID Connect tokens of one issuer, which come as
// the password: the kubelet's credential providers can send nothing else. Safe for
// concurrent use.
type Tokens struct {
	keys     *Keys
	issuer   string
	audience string
	sealer   *sealer
	known    *memory[string]
}

// NewTokens makes Tokens.
func NewTokens(c TokenConfig) *Tokens {
	return &Tokens{
		keys:     c.Keys,
		issuer:   c.Issuer,
		audience: c.Audience,
		sealer:   newSealer(),
		known:    newMemory[string](maxTokens),
	}
}

// isToken reports whether a password looks like a token. It is longer than any
// password that bcrypt can tell apart.
func isToken(password string) bool {
	return len(password) > maxPassword && strings.Count(password, ".") == 2
}

// name is the client's name by its token. Errors: *wrong; others are "could not
// tell": keys that are not there yet.
func (t *Tokens) name(ctx context.Context, token string, now time.Time) (string, error) {
	if len(token) > maxToken {
		return "", &wrong{text: fmt.Sprintf("%sit is larger than %d bytes", refusedToken, maxToken)}
	}
	ring := t.keys.ring()
	if ring == nil {
		return "", errNoKeys
	}

	sealed := t.sealer.seal(ring.id, token)
	if name, ok := t.known.get(sealed, now); ok {
		return name, nil
	}
	parsed, err := parseToken(token)
	if err != nil {
		return "", &wrong{refusedToken + "it is no JSON web token that can be read in one way", err}
	}
	if !ring.has(parsed.header.KeyID) {
		if t.keys.renew(ring, now) {
			return "", errUnknownKey
		}
		return "", &wrong{refusedToken + "its key is none of the issuer's", nil}
	}

	name, until, err := t.verify(ctx, ring, token, now)
	if err != nil {
		return "", &wrong{refusedToken + t.why(parsed.claims, now), err}
	}
	t.known.put(sealed, name, until)
	return name, nil
}

// verify checks the signature and what the token says, and returns its name and
// its end.
func (t *Tokens) verify(
	ctx context.Context,
	ring *keyRing,
	token string,
	now time.Time,
) (name string, until time.Time, err error) {
	verifier := oidc.NewVerifier(t.issuer, ring, &oidc.Config{
		ClientID:             t.audience,
		SupportedSigningAlgs: algorithms(),
		Now:                  func() time.Time { return now },
	})
	verified, err := verifier.Verify(ctx, token)
	if err != nil {
		return "", time.Time{}, err
	}

	name = policy.SubjectKind + ":" + verified.Subject
	if verified.Issuer != t.issuer { // go-oidc has an exception for one issuer
		return "", time.Time{}, errors.New("it is by another issuer")
	}
	return name, verified.Expiry, policy.CheckClientName(name)
}

// why says what is the matter with a token that was refused, as far as its own
// words tell.
func (t *Tokens) why(c claims, now time.Time) string {
	switch {
	case c.Issuer != t.issuer:
		return "it is by another issuer than this gate's"
	case !c.Audience.has(t.audience):
		return "it is for another audience than this gate's"
	case c.Expiry != 0 && float64(now.Unix()) > c.Expiry:
		return "it has ended; get a new one"
	case c.NotBefore > float64(now.Unix()):
		return "it does not hold yet"
	}
	return "its signature or its subject does not count"
}

// parsedToken is what a token says before anything of it is proven.
type parsedToken struct {
	header struct {
		Algorithm string `json:"alg"`
		KeyID     string `json:"kid"`

		Critical json.RawMessage `json:"crit"` // what a reader has to understand: nothing here does
	}
	claims claims
}

type claims struct {
	Issuer    string   `json:"iss"`
	Audience  audience `json:"aud"`
	Expiry    float64  `json:"exp"`
	NotBefore float64  `json:"nbf"`
	Subject   string   `json:"sub"`
}

// audience is one text, or a list of them.
type audience []string

// UnmarshalJSON implements json.Unmarshaler.
func (a *audience) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(a))
}

func (a audience) has(name string) bool {
	for _, one := range a {
		if one == name {
			return true
		}
	}
	return false
}

var errToken = errors.New("not three parts of base64, or a critical header")

// parseToken reads a token in its compact form. JSON that two parsers could read
// differently is refused: a claim that is there twice, or in two cases.
func parseToken(token string) (p parsedToken, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return p, errToken
	}

	header, err := readPart(parts[0], "alg", "kid", "crit", "jwk", "jku", "x5c", "x5u")
	if err != nil {
		return p, err
	}
	payload, err := readPart(parts[1], "iss", "aud", "exp", "nbf", "iat", "sub")
	if err != nil {
		return p, err
	}

	err = errors.Join(json.Unmarshal(header, &p.header), json.Unmarshal(payload, &p.claims))
	if err == nil && p.header.Critical != nil {
		err = errToken
	}
	return p, err
}

// readPart decodes a part of a token, an object in which no name is there twice,
// nor one of the names in another case, which Go's decoder would take for it.
func readPart(part string, names ...string) ([]byte, error) {
	text, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil || strings.ContainsAny(part, "\r\n") { // which the decoder skips
		return nil, errToken
	}
	if err := oci.CheckUnique(text, tokenDepth, tokenNumber); err != nil {
		return nil, err
	}

	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, errors.New("it is no JSON object")
	}
	for field := range fields {
		for _, name := range names {
			if field != name && strings.EqualFold(field, name) {
				return nil, fmt.Errorf("%.20q is %q in another case", field, name)
			}
		}
	}
	return text, nil
}
