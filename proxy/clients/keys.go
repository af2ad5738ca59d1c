package clients

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// MaxKeySet bounds a key set, and what discovery answers, in bytes.
const MaxKeySet = 256 << 10

const (
	maxKeys      = 100
	maxRSABits   = 8192
	minRSABits   = 2048
	fetchTimeout = 10 * time.Second
	fetchEvery   = time.Hour
	fetchAgain   = 30 * time.Second // at the earliest, for a key that is not known
	firstBackoff = time.Second
	maxBackoff   = time.Minute
)

var (
	errNoKeys     = errors.New("the keys of the OIDC issuer have not been fetched yet")
	errUnknownKey = errors.New("the token's key is not known yet; the issuer's keys are fetched again")
)

// Keys are the public keys by which tokens count: those of a file, or the
// issuer's, which are fetched in the background. No request waits for them, and
// the last good ones stay in use while the issuer is away. Safe for concurrent
// use.
type Keys struct {
	current atomic.Pointer[keyRing]

	issuer string // "" for keys of a file
	client *http.Client
	asked  chan struct{}
}

// ParseKeys reads the keys of a file (a JSON Web Key Set, RFC 7517).
func ParseKeys(text []byte) (*Keys, error) {
	ring, err := parseKeyRing(text)
	if err != nil {
		return nil, err
	}
	k := &Keys{}
	k.current.Store(ring)
	return k, nil
}

// FetchedKeys are the keys of an issuer, by client. They are empty until Run has
// fetched them.
func FetchedKeys(issuer string, client *http.Client) *Keys {
	return &Keys{
		issuer: issuer,
		client: withoutDowngrade(client),
		asked:  make(chan struct{}, 1),
	}
}

// withoutDowngrade is client, but for redirects away from https.
func withoutDowngrade(client *http.Client) *http.Client {
	careful := *client
	careful.Timeout = fetchTimeout
	careful.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if len(via) > 3 || r.URL.Scheme != via[0].URL.Scheme {
			return errors.New("the redirect leads nowhere, or to another scheme")
		}
		return nil
	}
	return &careful
}

// ring are the keys as of now; nil: none have been fetched.
func (k *Keys) ring() *keyRing { return k.current.Load() }

// renew asks for the keys to be fetched again, since a token names one that ring
// has not. False means that they are fresh enough for that to be an answer.
func (k *Keys) renew(ring *keyRing, now time.Time) bool {
	if k.issuer == "" || now.Sub(ring.fetched) < fetchAgain {
		return false
	}
	select {
	case k.asked <- struct{}{}:
	default: // somebody has asked already
	}
	return true
}

// Run fetches the keys now, every hour, and when a token names one that is not
// known, until ctx ends. For nil Keys and those of a file there is nothing to do.
func (k *Keys) Run(ctx context.Context, log *slog.Logger) {
	if k == nil || k.issuer == "" {
		return
	}

	backoff := firstBackoff
	for {
		ring, err := k.fetch(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			k.current.Store(ring)
			backoff = firstBackoff
			k.pause(ctx, fetchEvery, k.asked)
			continue
		}

		log.Warn("the keys of the OIDC issuer could not be fetched; the last good ones stay in use",
			"issuer", k.issuer, "have_keys", k.ring() != nil, "again_in", backoff.String(), "error", err)
		k.pause(ctx, backoff, nil) // an issuer that is away is not asked more often because a token wants a key
		backoff = min(2*backoff, maxBackoff)
	}
}

// pause waits for a time, somewhat shortened so that replicas do not ask in step,
// or until it is called off.
func (k *Keys) pause(ctx context.Context, wait time.Duration, off <-chan struct{}) {
	timer := time.NewTimer(wait - rand.N(wait/10))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-off:
	}
}

// fetch asks the issuer where its keys are, and for them.
func (k *Keys) fetch(ctx context.Context) (*keyRing, error) {
	var discovery struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	text, err := k.get(ctx, strings.TrimSuffix(k.issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &discovery); err != nil {
		return nil, errors.New("the issuer's configuration is no JSON")
	}
	if discovery.Issuer != k.issuer {
		return nil, fmt.Errorf("it calls itself %.200q: write clients.oidc.issuer so", discovery.Issuer)
	}

	at, err := url.Parse(discovery.Keys)
	if err != nil || at.Scheme != "https" && !strings.HasPrefix(k.issuer, "http://") {
		return nil, errors.New("its jwks_uri is no https:// address")
	}
	if text, err = k.get(ctx, at.String()); err != nil {
		return nil, err
	}
	ring, err := parseKeyRing(text)
	if err != nil {
		return nil, err
	}
	ring.fetched = time.Now()
	return ring, nil
}

func (k *Keys) get(ctx context.Context, address string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("ask %.200s: %w", address, err)
	}
	r.Header.Set("Accept", "application/json")

	answer, err := k.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%.200s answers %s", address, answer.Status)
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, MaxKeySet+1))
	if err != nil {
		return nil, fmt.Errorf("read %.200s: %w", address, err)
	}
	if len(text) > MaxKeySet {
		return nil, fmt.Errorf("%.200s answers more than %d bytes", address, MaxKeySet)
	}
	return text, nil
}

// keyRing is one set of keys. It is immutable.
type keyRing struct {
	id      string // of what it was read from
	keys    []jose.JSONWebKey
	fetched time.Time
}

// algorithms are those that a token may be signed by: with a public key, each of
// them. A secret, or nothing at all, is none.
func algorithms() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
}

// parseKeyRing reads a JSON Web Key Set. Keys that cannot count are left out;
// there has to be one that can.
func parseKeyRing(text []byte) (*keyRing, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, errors.New("it is no JSON Web Key Set: {\"keys\": […]}")
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("it holds more than %d keys", maxKeys)
	}

	sha := sha256.Sum256(text)
	ring := &keyRing{id: hex.EncodeToString(sha[:])}
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		if json.Unmarshal(raw, &key) == nil && counts(key) {
			ring.keys = append(ring.keys, key)
		}
	}
	if len(ring.keys) == 0 {
		return nil, fmt.Errorf(
			"none of its %d keys is a public RSA, ECDSA or Ed25519 key for signatures",
			len(set.Keys),
		)
	}
	return ring, nil
}

// counts reports whether a key may prove a token: public, for signatures, and of
// a size that is neither weak nor costly.
func counts(key jose.JSONWebKey) bool {
	if key.Use != "" && key.Use != "sig" {
		return false
	}

	switch public := key.Key.(type) {
	case *rsa.PublicKey:
		return public.N.BitLen() >= minRSABits && public.N.BitLen() <= maxRSABits
	case *ecdsa.PublicKey:
		return true
	case ed25519.PublicKey:
		return len(public) == ed25519.PublicKeySize
	}
	return false
}

// has reports whether some key may be the one of that name. A token without a
// name may be by any.
func (r *keyRing) has(id string) bool {
	for i := range r.keys {
		if id == "" || r.keys[i].KeyID == id {
			return true
		}
	}
	return false
}

// VerifySignature implements oidc.KeySet. A key counts only for the algorithm
// that it is for, where it says one.
func (r *keyRing) VerifySignature(_ context.Context, token string) ([]byte, error) {
	var allowed []jose.SignatureAlgorithm
	for _, name := range algorithms() {
		allowed = append(allowed, jose.SignatureAlgorithm(name))
	}
	signed, err := jose.ParseSignedCompact(token, allowed)
	if err != nil {
		return nil, err
	}
	header := signed.Signatures[0].Header

	for i := range r.keys {
		key := &r.keys[i]
		if header.KeyID != "" && key.KeyID != header.KeyID || key.Algorithm != "" && key.Algorithm != header.Algorithm {
			continue
		}
		if payload, err := signed.Verify(key.Key); err == nil {
			return payload, nil
		}
	}
	return nil, errors.New("no key of the issuer's has signed it")
}
