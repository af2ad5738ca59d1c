package upstream

import (
	"strings"
)

const (
	maxChallenge       = 4096 // bytes of one WWW-Authenticate field that are read
	maxChallenges      = 8    // challenges that are read
	maxChallengeParams = 32   // parameters of a challenge that are read
	maxScope           = 1000 // bytes of a challenge's scope
)

// challenge is what a registry wants to be shown (RFC 9110, section 11.6.1).
type challenge struct {
	scheme string            // lower case
	params map[string]string // by lower-case name; of two with one name the first counts
}

// parseChallenges reads the values of WWW-Authenticate: several challenges may
// stand in one field, parted by the commas that part their parameters too. A
// word without = behind it begins the next one.
func parseChallenges(fields []string) []challenge {
	var list []challenge
	for _, field := range fields {
		rest := field[:min(len(field), maxChallenge)]
		begun := len(list) // a parameter belongs to a challenge of its own field
		for len(list) <= maxChallenges {
			rest = strings.TrimLeft(rest, " \t,;=\"<>")
			if rest == "" {
				break
			}

			name, value, after, ok := cutParam(rest)
			switch {
			case !ok: // quotes that are not closed
				after = ""
			case !isParam(rest, name):
				list = append(list, challenge{scheme: name, params: map[string]string{}})
			case len(list) > begun:
				list[len(list)-1].add(name, value)
			}
			rest = after
		}
	}
	return list[:min(len(list), maxChallenges)]
}

// isParam reports whether the name that s begins with is a parameter's.
func isParam(s, name string) bool {
	return strings.HasPrefix(strings.TrimLeft(s[len(name):], " \t"), "=")
}

func (c challenge) add(name, value string) {
	if _, twice := c.params[name]; !twice && len(c.params) < maxChallengeParams {
		c.params[name] = value
	}
}

// challengeOf finds the challenge of one scheme, which is lower case. One that
// names a realm comes before one that names none.
func challengeOf(challenges []challenge, scheme string) (found challenge, ok bool) {
	for _, c := range challenges {
		if c.scheme != scheme || ok && (found.params["realm"] != "" || c.params["realm"] == "") {
			continue
		}
		found, ok = c, true
	}
	return found, ok
}

// pullScope is what the challenge's scope lets the gate ask for: its repositories,
// as the token service names them, and pull alone. It is empty when the challenge
// names no repository to pull from.
func (c challenge) pullScope() string {
	scope := c.params["scope"]
	if len(scope) > maxScope || strings.ContainsFunc(scope, func(r rune) bool { return r < ' ' || r > '~' }) {
		return ""
	}

	var wanted []string
	for entry := range strings.FieldsSeq(scope) {
		i := strings.LastIndexByte(entry, ':')
		if i < 0 {
			continue
		}
		resource, actions := entry[:i], entry[i+1:]
		kind, name, ok := strings.Cut(resource, ":")
		if !ok || name == "" || kind != "repository" && !strings.HasPrefix(kind, "repository(") {
			continue
		}

		for action := range strings.SplitSeq(actions, ",") {
			if action == "pull" || action == "*" {
				wanted = append(wanted, resource+":pull")
				break
			}
		}
	}
	return strings.Join(wanted, " ")
}
