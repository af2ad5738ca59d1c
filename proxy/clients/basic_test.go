package clients

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/pullgate/pullgate/policy"
)

func TestParseHtpasswd(t *testing.T) {
	t.Parallel()
	hash := func(cost int) string {
		h, err := bcrypt.GenerateFromPassword([]byte("x"), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Replace(string(h), "$04$", fmt.Sprintf("$%02d$", cost), 1)
	}
	good := hash(4)
	for name, row := range map[string]struct {
		text string
		want map[int]string // line → part of what is wrong
		n    int            // users
	}{
		"users": {"# by hand\n\nci:" + good + "\r\nnode:" + strings.Replace(good, "$2a$", "$2y$", 1), nil, 2},
		"MD5":   {"ci:$apr1$n1a2b3c4$Nk7yXrXW4vJqT1Ww0sJ6C/\n", map[int]string{1: "not bcrypt's"}, 0},
		"SHA-1": {
			"ok:" + good + "\nci:{SHA}2jmj7l5rSw0yVb/vlWAYkK/YBwk=\n",
			map[int]string{2: "not bcrypt's"},
			1,
		},
		"SHA-512 crypt": {"ci:$6$rounds=5000$abc$def\n", map[int]string{1: "not bcrypt's"}, 0},
		"plain":         {"ci:hunter2\n", map[int]string{1: "not bcrypt's"}, 0},
		"empty hash":    {"ci:\n", map[int]string{1: "not bcrypt's"}, 0},
		"old bcrypt":    {"ci:" + strings.Replace(good, "$2a$", "$2x$", 1), map[int]string{1: "not bcrypt's"}, 0},
		"cut":           {"ci:" + good[:50], map[int]string{1: "damaged"}, 0},
		"too long":      {"ci:" + good + "x", map[int]string{1: "damaged"}, 0},
		"no cost":       {"ci:$2a$xx$" + good[7:], map[int]string{1: "damaged"}, 0},
		"dear":          {"ci:" + hash(15), map[int]string{1: "cost 15"}, 0},
		"as dear as may be": {
			"ci:" + hash(14), nil, 1,
		},
		"twice":      {"ci:" + good + "\nci:" + good, map[int]string{2: `"ci" again, first at line 1`}, 1},
		"no colon":   {"ci " + good, map[int]string{1: "USER:HASH"}, 0},
		"no user":    {":" + good, map[int]string{1: "no user's name"}, 0},
		"control":    {"c\x1bi:" + good, map[int]string{1: "no user's name"}, 0},
		"empty":      {"\n# none\n", map[int]string{0: "names no user"}, 0},
		"everything": {"a:b\nc:" + good + "\nc:d\ne\n", map[int]string{1: "bcrypt", 3: "again", 4: "USER:HASH"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			users, problems := ParseHtpasswd([]byte(row.text))
			if len(users) != row.n || len(problems) != len(row.want) {
				t.Errorf("%d users, problems %v", len(users), problems)
			}
			for _, p := range problems {
				if want := row.want[p.Line]; want == "" || !strings.Contains(p.Text, want) {
					t.Errorf("%v, want %q", p, want)
				}
				if strings.Contains(p.Error(), "hunter2") || strings.Contains(p.Error(), good[10:]) {
					t.Errorf("a hash is quoted: %v", p)
				}
			}
		})
	}
}

// full takes every turn of bcrypt: what is answered then was not computed.
func (p *Passwords) full() (release func()) {
	for range cap(p.turns) {
		p.turns <- struct{}{}
	}
	return func() {
		for range cap(p.turns) {
			<-p.turns
		}
	}
}

func TestPasswords(t *testing.T) {
	t.Parallel()
	p := passwords(t, "ci", "node")
	near := policy.Client{Addr: "10.0.0.1"}
	ask := func(user, password string) (string, error) { return p.name(t.Context(), near, user, password) }
	wrongly := func(t *testing.T, user, password string) {
		t.Helper()
		name, err := ask(user, password)
		if why, ok := err.(*wrong); !ok || why.text != wrongText || name != "" { //nolint:errorlint // never wrapped
			t.Errorf("%q: %v", name, err)
		}
	}

	t.Run("right", func(t *testing.T) {
		for range 2 {
			if name, err := ask("ci", passwordOf("ci")); name != "user:ci" || err != nil {
				t.Fatalf("%q, %v", name, err)
			}
		}
	})
	t.Run("wrong", func(t *testing.T) {
		wrongly(t, "ci", passwordOf("node"))
		wrongly(t, "ci", "")
		wrongly(t, "ci", passwordOf("ci")+" ")
		wrongly(t, "CI", passwordOf("ci"))
		wrongly(t, "", passwordOf("ci"))
	})
	t.Run("user and password part elsewhere", func(t *testing.T) {
		wrongly(t, "c", "i"+passwordOf("ci"))
	})
	t.Run("remembered", func(t *testing.T) {
		release := p.full()
		defer release()
		if name, err := ask("ci", passwordOf("ci")); name != "user:ci" || err != nil {
			t.Errorf("%q, %v", name, err)
		}
		wrongly(t, "ci", passwordOf("node"))
	})
	t.Run("not remembered for another user", func(t *testing.T) {
		wrongly(t, "node", passwordOf("ci"))
	})
	t.Run("the decoy's password", func(t *testing.T) {
		alone := passwords(t, "ci")
		if _, err := alone.name(t.Context(), near, "stranger", passwordOf("ci")); err == nil {
			t.Error("a user who is not known logs in with the password of another")
		}
	})
	t.Run("more than bcrypt reads", func(t *testing.T) {
		long := strings.Repeat("x", maxPassword)
		hash, err := bcrypt.GenerateFromPassword([]byte(long), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		p := NewPasswords(Users{"ci": hash})
		if _, err := p.name(t.Context(), near, "ci", long); err != nil {
			t.Error(err)
		}
		if _, err := p.name(t.Context(), near, "ci", long+"y"); err == nil {
			t.Error("what bcrypt does not read is not compared")
		}
	})
}

// Checks that are under way at once are shared by those who show the very same.
func TestChecksApart(t *testing.T) {
	t.Parallel()
	p := passwords(t, "ci")
	release := p.full()
	client := policy.Client{Addr: "10.0.0.1"}
	answers := make(chan string, 1)
	go func() {
		name, _ := p.name(t.Context(), client, "ci", passwordOf("ci"))
		answers <- name
	}()
	for waiting := 0; waiting == 0; time.Sleep(time.Millisecond) {
		p.attempts.mu.Lock()
		if g := p.attempts.networks[client.Network()]; g != nil {
			waiting = g.trying
		}
		p.attempts.mu.Unlock()
	}

	time.AfterFunc(50*time.Millisecond, release)
	if name, err := p.name(t.Context(), client, "c", "i"+passwordOf("ci")); err == nil {
		t.Errorf("the user is %q", name)
	}
	if name := <-answers; name != "user:ci" {
		t.Errorf("the user is %q", name)
	}
}

// Users who are not known take their turn like the others: an answer that came at
// once would tell who is one.
func TestUnknownUserCosts(t *testing.T) {
	t.Parallel()
	p := passwords(t, "ci")
	release := p.full()
	defer release()
	for _, user := range []string{"ci", "stranger"} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if name, err := p.name(ctx, policy.Client{Addr: "10.0.0.1"}, user, "guess"); !errors.Is(err, errNoTurn) {
			t.Errorf("%s: %q, %v", user, name, err)
		}
		cancel()
	}
}

// Guesses from one network get few turns; what memory knows is answered all the
// same, and so are other networks.
func TestGuesses(t *testing.T) {
	t.Parallel()
	p := passwords(t, "ci", "node")
	attacker, other := policy.Client{Addr: "192.0.2.1"}, policy.Client{Addr: "192.0.2.2"}
	if _, err := p.name(t.Context(), attacker, "ci", passwordOf("ci")); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	p.attempts.now = func() time.Time { return start } // nothing is forgiven meanwhile

	// Each guess takes its own turn: the answers come at once.
	for i := range maxGuesses {
		if _, err := p.name(t.Context(), attacker, "ci", fmt.Sprint("guess ", i)); err == nil {
			t.Fatal("a guess is right")
		}
	}
	done, err := p.attempts.begin(t.Context(), other.Network())
	if err != nil {
		t.Errorf("another network: %v", err)
	} else {
		done(true)
	}

	t.Run("remembered", func(t *testing.T) {
		if name, err := p.name(t.Context(), attacker, "ci", passwordOf("ci")); name != "user:ci" {
			t.Errorf("%q, %v", name, err)
		}
	})
	t.Run("one more", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		var busy *BusyError
		if _, err := p.attempts.begin(ctx, attacker.Network()); !errors.As(err, &busy) || busy.Seconds() < 1 {
			t.Errorf("%v", err)
		}
	})
	t.Run("later", func(t *testing.T) {
		p.attempts.mu.Lock()
		p.attempts.now = func() time.Time { return start.Add(guessAgain + time.Millisecond) }
		p.attempts.mu.Unlock()
		done, err := p.attempts.begin(t.Context(), attacker.Network())
		if err != nil {
			t.Fatal(err)
		}
		done(false)
	})
}

// A fleet behind one address logs in at once: right passwords give their turn back.
func TestFleet(t *testing.T) {
	t.Parallel()
	var users []string
	for i := range 5 * maxGuesses {
		users = append(users, fmt.Sprint("node-", i))
	}
	p := passwords(t, users...)

	var all sync.WaitGroup
	for _, user := range users {
		for range 3 {
			all.Go(func() {
				name, err := p.name(t.Context(), policy.Client{Addr: "192.0.2.1"}, user, passwordOf(user))
				if name != "user:"+user || err != nil {
					t.Errorf("%s: %q, %v", user, name, err)
				}
			})
		}
	}
	all.Wait()
	if len(p.right) != len(users) || p.attempts.waiting != 0 {
		t.Errorf("%d are remembered, %d wait", len(p.right), p.attempts.waiting)
	}
}

// What guesses are remembered by is bounded, however many addresses they come from.
func TestGuessMemory(t *testing.T) {
	t.Parallel()
	now := time.Now()
	a := newAttempts(func() time.Time { return now })
	for i := range 3 * maxNetworks {
		done, err := a.begin(t.Context(), fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		done(i%2 == 0)
	}
	if len(a.networks) > maxNetworks {
		t.Errorf("%d networks are remembered", len(a.networks))
	}

	m := newMemory[struct{}](10)
	for i := range 100 {
		m.put(newSealer().seal(fmt.Sprint(i)), struct{}{}, now.Add(time.Hour))
	}
	if len(m.kept) > 10 {
		t.Errorf("%d sums are kept", len(m.kept))
	}
}

// Sums are of this process and of these parts alone.
func TestSeal(t *testing.T) {
	t.Parallel()
	s := newSealer()
	if first, again := s.seal("a", "b"), s.seal("a", "b"); first != again {
		t.Error("the same sums otherwise")
	}
	if s.seal("a", "b") == s.seal("ab", "") || s.seal("a", "b") == s.seal("ab") {
		t.Error("other parts sum alike")
	}
	if s.seal("a", "b") == newSealer().seal("a", "b") {
		t.Error("another process sums alike")
	}
}
