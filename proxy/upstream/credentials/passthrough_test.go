package credentials

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/policy"
)

func scoped(name string) policy.Repository {
	return policy.Repository{Host: repo.Host, Path: repo.Path, Scope: name}
}

// A scope stands for one client's credentials while it has requests, and for a
// while after that. One that stands for none is an error, not the absence of
// credentials.
func TestPassthroughScopes(t *testing.T) {
	t.Parallel()
	p := NewPassthrough()
	header := func(user string) string { return "Basic " + encoded(user, testPassword) }
	alice, leaveAlice, err := p.Enter(header("alice"))
	if err != nil {
		t.Fatal(err)
	}
	bob, leaveBob, err := p.Enter(header("bob"))
	if err != nil {
		t.Fatal(err)
	}
	again, leaveAgain, err := p.Enter(header("alice"))
	if err != nil || again != alice || alice == bob || strings.Contains(alice, mark) {
		t.Errorf("scopes %q, %q and %q, %v", alice, bob, again, err)
	}

	for name, user := range map[string]string{alice: "alice", bob: "bob", "": ""} {
		got, err := p.Get(t.Context(), scoped(name))
		if err != nil || got.Username != user || (got.Password == testPassword) != (user != "") {
			t.Errorf("%q: user %q, %v", name, got.Username, err)
		}
	}
	got, err := p.Get(t.Context(), scoped("another"))
	wantError(t, err, "has left")
	if !got.Empty() || p.Configured() {
		t.Error("there are credentials beside the error, or of the gate's own")
	}

	leaveAlice()
	leaveBob()
	if p.scopes[alice].end != nil || p.scopes[bob].end == nil {
		t.Error("the wrong one is about to end")
	}
	leaveAgain()
	back, leaveBack, err := p.Enter(header("alice"))
	if err != nil || back != alice {
		t.Errorf("scope %q, %v", back, err)
	}
	leaveBack()
	if other, _, err := NewPassthrough().Enter(header("alice")); err != nil || other == alice {
		t.Error("another process has the same scope for it: a scope is a hash that passwords can be held against")
	}
}

// However many clients there are, a bounded number of passwords is held.
func TestPassthroughBound(t *testing.T) {
	t.Parallel()
	p := NewPassthrough()
	for i := range maxScopes {
		p.scopes[strings.Repeat("x", i)] = &scope{}
	}
	_, _, err := p.Enter("Bearer x")
	wantError(t, err, "too many clients")
	if errors.Is(err, ErrAuthorization) {
		t.Error("that is said to be the client's fault")
	}
}

func TestPassthroughHeaders(t *testing.T) {
	t.Parallel()
	base := base64.StdEncoding.EncodeToString
	for _, tt := range []struct {
		header string
		want   Credentials
	}{
		{"Basic " + encoded("a", "b:c"), Credentials{Username: "a", Password: "b:c"}},
		{"basic   " + encoded("a", "ü"), Credentials{Username: "a", Password: "ü"}},
		{"Bearer abc.def", Credentials{Token: "abc.def"}},
		{"BEARER abc", Credentials{Token: "abc"}},
		{"Basic", Credentials{}},
		{"Basic !", Credentials{}},
		{"Basic " + base([]byte("no colon")), Credentials{}},
		{"Basic " + encoded("", "b"), Credentials{}},
		{"Basic " + encoded("a", ""), Credentials{}},
		{"Basic " + encoded("a", "b\r\nX: y"), Credentials{}},
		{"Basic " + encoded("a\x00", "b"), Credentials{}},
		{"Bearer", Credentials{}},
		{"Bearer a b", Credentials{}},
		{"Bearer a\x00", Credentials{}},
		{"Bearer " + strings.Repeat("a", maxAuthorization), Credentials{}},
		{"Digest a", Credentials{}},
		{" ", Credentials{}},
	} {
		got, err := parseAuthorization(tt.header)
		if got != tt.want || (err != nil) != tt.want.Empty() {
			t.Errorf("%.40q: user %q, %v", tt.header, got.Username, err)
		}
	}
}
