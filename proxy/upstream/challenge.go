package upstream

import (
	"regexp"
	"strings"
)

const (
	maxChallenge       = 4096 // bytes of a challenge that are read
	maxChallengeParams = 32   // parameters of a challenge that are read
)

// challengeOf finds the challenge of one scheme among the values of
// WWW-Authenticate, and returns its parameters.
func challengeOf(challenges []string, scheme string) (params string, ok bool) {
	for _, c := range challenges {
		if name, params, _ := strings.Cut(c, " "); strings.EqualFold(name, scheme) {
			return params, true
		}
	}

	return "", false
}

var challengeParam = regexp.MustCompile(`([a-zA-Z]+)\s*=\s*(?:"([^"]*)"|([^\s,"]+))`)

// challengeParams parses a challenge's parameters (RFC 9110, section 11.4). Of
// two parameters with the same name the first one counts.
func challengeParams(s string) map[string]string {
	values := map[string]string{}
	for _, m := range challengeParam.FindAllStringSubmatch(s[:min(len(s), maxChallenge)], maxChallengeParams) {
		name := strings.ToLower(m[1])
		if _, twice := values[name]; !twice {
			values[name] = m[2] + m[3]
		}
	}

	return values
}
