package upstream

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
)

// maxQuery bounds the query of a next page, in bytes. Registries put tokens of
// their own there, some of more than a thousand characters.
const maxQuery = 4096

// errCircle is a link to the first page, where the list would begin anew.
var errCircle = errors.New("its link to the next page leads back to the first")

// next is the query of the page that follows resp, which at asked for, as its
// registry spells it, and empty after the last page. Of the link's target nothing
// else is looked at: the page is asked for at the same place as the one before, so
// that no registry leads the gate elsewhere, and gateways that rewrite paths or
// hosts do no harm.
func (u *Upstream) next(at *url.URL, resp *http.Response) (query string, err error) {
	target, found, err := nextLink(resp.Header.Values("Link"))
	if err != nil {
		return "", u.broken("%w", err)
	}
	if !found {
		return "", nil
	}

	target, _, _ = strings.Cut(target, "#")
	path, query, _ := strings.Cut(target, "?")
	switch {
	case query == "" && (path == "" || strings.HasSuffix(path, at.Path)):
		return "", u.broken("%w", errCircle)
	case query == "":
		return "", u.broken("its link to the next page names none")
	case !ValidQuery(query):
		return "", u.broken("its link to the next page is malformed")
	}
	return query, nil
}

// ValidQuery reports whether the query of a next page can be sent as it is: it is
// printable, and holds nothing that ends a URL.
func ValidQuery(query string) bool {
	return len(query) <= maxQuery && !strings.ContainsFunc(query, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`"<>\#`, r)
	})
}

var errLink = errors.New("its Link header is malformed")

// nextLink finds the first link to a next page in the values of Link (RFC 8288,
// section 3), and returns its target as it stands. What cannot be parsed is an
// error only where it may be such a link: content networks add links too.
func nextLink(fields []string) (target string, found bool, err error) {
	for _, field := range fields {
		rest := field
		for {
			rest = strings.TrimLeft(rest, " \t,")
			if rest == "" {
				break
			}

			link, after, ok := cutLink(rest)
			if !ok {
				if strings.Contains(strings.ToLower(rest), "next") {
					return "", false, errLink
				}
				break
			}
			if link.isNext() {
				return link.target, true, nil
			}
			rest = after
		}
	}
	return "", false, nil
}

// link is one link of a Link header.
type link struct {
	target string
	params map[string]string // by lower-case name; of two with one name the first counts
}

// isNext reports whether the link leads to the page after the one that it came
// with. One with an anchor is about another page.
func (l link) isNext() bool {
	if _, elsewhere := l.params["anchor"]; elsewhere {
		return false
	}
	for relation := range strings.FieldsSeq(l.params["rel"]) {
		if strings.EqualFold(relation, "next") {
			return true
		}
	}
	return false
}

// cutLink reads the link that s begins with, and returns what follows it.
func cutLink(s string) (l link, after string, ok bool) {
	s, ok = strings.CutPrefix(s, "<")
	if !ok {
		return link{}, "", false
	}
	l.params = map[string]string{}
	l.target, s, ok = strings.Cut(s, ">")
	if !ok {
		return link{}, "", false
	}

	for {
		s = strings.TrimLeft(s, " \t")
		switch {
		case s == "":
			return l, "", true
		case s[0] == ',':
			return l, s[1:], true
		case s[0] != ';':
			return link{}, "", false
		}

		s = strings.TrimLeft(s[1:], " \t")
		if s == "" || s[0] == ';' || s[0] == ',' { // a parameter may be left out
			continue
		}
		var name, value string
		name, value, s, ok = cutParam(s)
		if !ok {
			return link{}, "", false
		}
		if _, twice := l.params[name]; !twice {
			l.params[name] = value
		}
	}
}

// cutParam reads name=value, name="value" or a name alone from the beginning of
// s, as links and challenges have them; the name becomes lower-case. Values
// without quotes may hold what a token may not: registries write URLs so.
func cutParam(s string) (name, value, after string, ok bool) {
	end := strings.IndexAny(s, " \t=,;\"<>")
	if end < 0 {
		end = len(s)
	}
	name, s = strings.ToLower(s[:end]), strings.TrimLeft(s[end:], " \t")
	if name == "" {
		return "", "", "", false
	}

	s, ok = strings.CutPrefix(s, "=")
	if !ok {
		return name, "", s, true
	}
	s = strings.TrimLeft(s, " \t")
	if strings.HasPrefix(s, `"`) {
		value, after, ok = cutQuoted(s)
		return name, value, after, ok
	}

	end = strings.IndexAny(s, " \t,;\"<>")
	if end < 0 {
		end = len(s)
	}
	return name, s[:end], s[end:], true
}

// cutQuoted reads the quoted string that s begins with (RFC 9110, section 5.6.4).
func cutQuoted(s string) (value, after string, ok bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			i++
			if i == len(s) {
				return "", "", false
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}
