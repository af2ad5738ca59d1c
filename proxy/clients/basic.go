package clients

import (
	"context"
	"crypto/hmac"
	"errors"
	"runtime"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sync/singleflight"

	"github.com/pullgate/pullgate/policy"
)

const (
	wrongFor  = time.Minute // a wrong password is remembered: nodes go on asking with it
	maxWrong  = 4096        // that are remembered
	wrongText = "user or password is wrong"
)

// errNoTurn says that bcrypt was busy for too long. Whether the password is right
// is not known.
var errNoTurn = errors.New("too many passwords are being checked")

// Passwords knows users by their passwords. bcrypt takes a sixteenth of a second
// and more for each: a password that was right is remembered, as a sum under a
// key of this process, and checks run a few at a time, so that a flood of them
// leaves the processors to verdicts. Safe for concurrent use; a changed file makes
// new Passwords, which remember nothing.
type Passwords struct {
	users    Users
	decoy    []byte // a user's hash, which the passwords of unknown users are compared with
	sealer   *sealer
	attempts *attempts
	checks   singleflight.Group
	turns    chan struct{}
	now      func() time.Time
	wrong    *memory[struct{}]

	mu    sync.Mutex
	right map[string]sum // by user: no more than there are users
}

// NewPasswords makes Passwords of users.
func NewPasswords(users Users) *Passwords {
	return &Passwords{
		users:    users,
		decoy:    users.dearest(),
		sealer:   newSealer(),
		attempts: newAttempts(time.Now),
		turns:    make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		now:      time.Now,
		wrong:    newMemory[struct{}](maxWrong),
		right:    map[string]sum{},
	}
}

// Weak are the users whose hashes cost less than a guess should.
func (p *Passwords) Weak() []string { return p.users.Weak() }

// name is the client's name when the password is the user's. What memory knows is
// answered at once, whatever else comes from the same address. Errors: *wrong,
// *BusyError; others are "could not tell".
func (p *Passwords) name(ctx context.Context, client policy.Client, user, password string) (string, error) {
	sealed := p.sealer.seal(user, password)
	name := policy.UserKind + ":" + user
	if p.wasRight(user, sealed) {
		return name, nil
	}
	if _, known := p.wrong.get(sealed, p.now()); known {
		return "", &wrong{text: wrongText}
	}

	// Detached: the client that leaves is not the only one who waits.
	ctx, cancel := context.WithTimeout(ctx, 2*maxWait)
	defer cancel()
	answer := p.checks.DoChan(string(sealed[:]), func() (any, error) {
		return p.try(context.WithoutCancel(ctx), client.Network(), user, password, sealed)
	})
	select {
	case <-ctx.Done():
		return "", errNoTurn
	case r := <-answer:
		if r.Err != nil {
			return "", r.Err
		}
		if right, _ := r.Val.(bool); !right {
			return "", &wrong{text: wrongText}
		}
		return name, nil
	}
}

// wasRight reports whether memory knows that this is the user's password.
func (p *Passwords) wasRight(user string, sealed sum) bool {
	p.mu.Lock()
	defer p.mu.Unlock()

	known, ok := p.right[user]
	return ok && hmac.Equal(known[:], sealed[:])
}

// try compares a password with the user's, when it is its turn. For a user who is
// not known it takes as long.
func (p *Passwords) try(ctx context.Context, network, user, password string, sealed sum) (right bool, err error) {
	done, err := p.attempts.begin(ctx, network)
	if err != nil {
		return false, err
	}
	defer func() { done(right || err != nil) }()

	turn := time.NewTimer(maxWait)
	defer turn.Stop()
	select {
	case p.turns <- struct{}{}:
		defer func() { <-p.turns }()
	case <-turn.C:
		return false, errNoTurn
	}

	hash, known := p.users[user]
	if !known {
		hash = p.decoy
	}
	same := bcrypt.CompareHashAndPassword(hash, []byte(password)) == nil
	if !same || !known || len(password) > maxPassword {
		p.wrong.put(sealed, struct{}{}, p.now().Add(wrongFor))
		return false, nil
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	p.right[user] = sealed
	return true, nil
}
