package clients

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/bcrypt"

	"github.com/pullgate/pullgate/policy"
)

// Bounds of a file of users.
const (
	MaxHtpasswd = 1 << 20 // bytes
	maxCost     = 14      // of bcrypt: 1 s for each check
	maxPassword = 72      // bytes: bcrypt looks at no more
)

// LineError is what is wrong with one line of a file.
type LineError struct {
	Line int
	Text string
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Text) }

// Users are the bcrypt hashes of a file as htpasswd -B writes it, by user.
type Users map[string][]byte

// ParseHtpasswd reads such a file: a line USER:HASH for each user, and comments
// after #. A hash of another kind is an error: MD5, SHA-1 and crypt are guessed
// by the million in a second. It returns every error, and no message quotes a
// hash.
func ParseHtpasswd(text []byte) (Users, []*LineError) {
	users, at := Users{}, map[string]int{}
	var problems []*LineError
	number := 0
	for line := range bytes.Lines(text) {
		number++
		entry := strings.TrimRight(string(line), "\r\n")
		if entry == "" || strings.HasPrefix(entry, "#") {
			continue
		}

		user, hash, ok := strings.Cut(entry, ":")
		var says string
		switch {
		case !ok:
			says = "is no USER:HASH; htpasswd -B writes such lines"
		case policy.CheckClientName(policy.UserKind+":"+user) != nil:
			says = fmt.Sprintf("has no user's name of at most %d printable characters before the colon",
				policy.MaxClientName)
		case at[user] > 0:
			says = fmt.Sprintf("names user %q again, first at line %d", user, at[user])
		default:
			says = checkHash(user, hash)
		}
		if says != "" {
			problems = append(problems, &LineError{number, says})
			continue
		}
		users[user], at[user] = []byte(hash), number
	}

	if len(users) == 0 && len(problems) == 0 {
		problems = append(problems, &LineError{0, "names no user: htpasswd -B adds one"})
	}
	return users, problems
}

// checkHash says what is wrong with a user's hash, or nothing.
func checkHash(user, hash string) string {
	cost, err := bcrypt.Cost([]byte(hash))
	switch {
	case !strings.HasPrefix(hash, "$2a$") && !strings.HasPrefix(hash, "$2b$") && !strings.HasPrefix(hash, "$2y$"):
		return fmt.Sprintf("user %q has a hash that is not bcrypt's: htpasswd -B makes one", user)
	case err != nil || len(hash) != 60:
		return fmt.Sprintf("user %q has a damaged bcrypt hash", user)
	case cost > maxCost:
		return fmt.Sprintf("user %q has a bcrypt hash of cost %d: %d at most, or each check takes seconds",
			user, cost, maxCost)
	}
	return ""
}

// dearest is the hash that costs most to compare with.
func (u Users) dearest() (hash []byte) {
	most := 0
	for _, h := range u {
		if cost, err := bcrypt.Cost(h); err == nil && cost > most {
			most, hash = cost, h
		}
	}
	return hash
}

// Weak are the users whose hashes cost less than a guess should: below 10,
// some thousand passwords can be tried in a second.
func (u Users) Weak() []string {
	var weak []string
	for user, hash := range u {
		if cost, err := bcrypt.Cost(hash); err == nil && cost < bcrypt.DefaultCost {
			weak = append(weak, user)
		}
	}
	slices.Sort(weak)
	return weak
}
