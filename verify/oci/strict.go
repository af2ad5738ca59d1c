package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ErrJSON is wrapped by every refusal of CheckStrict.
var ErrJSON = errors.New("ambiguous or malformed JSON")

// CheckStrict refuses JSON that two parsers could read differently: anything
// but exactly one value, invalid UTF-8, a key written twice, a key that
// differs from another only by case, and a key that differs from a name of the
// formats read here only by case (Go's decoder would take it for that name,
// others would not). It also bounds depth and the number of tokens, before
// anything is built from the bytes. Keys of annotation maps and of an
// attestation's predicate are data and only have to be unique.
func CheckStrict(b []byte, maxDepth, maxTokens int) error {
	return checkJSON(b, maxDepth, maxTokens, fieldKeys)
}

// CheckUnique is CheckStrict for JSON of another format, whose names are not
// the ones read here: a transparency log's.
func CheckUnique(b []byte, maxDepth, maxTokens int) error {
	return checkJSON(b, maxDepth, maxTokens, dataKeys)
}

// keyRule says what the keys of an object are.
type keyRule int

const (
	fieldKeys keyRule = iota // names of fields: one in another case is refused
	dataKeys                 // data, which only has to be unique
)

func checkJSON(b []byte, maxDepth, maxTokens int, keys keyRule) error {
	if !utf8.Valid(b) {
		return fmt.Errorf("%w: it is not UTF-8", ErrJSON)
	}
	s := scanner{text: b, left: maxTokens}
	if err := s.value(maxDepth, keys); err != nil {
		return fmt.Errorf("%w: %w", ErrJSON, err)
	}
	if s.skipBlanks(); s.at < len(b) {
		return fmt.Errorf("%w: something follows the value", ErrJSON)
	}
	return nil
}

// scanner walks over JSON by the grammar of RFC 8259. It builds only the keys of
// the objects that it is in. encoding/json's tokens say the same at two to eight
// times the cost, and anyone who may push a signature chooses these bytes.
type scanner struct {
	text []byte
	at   int
	left int // tokens that may still come
}

func (s *scanner) skipBlanks() {
	for s.at < len(s.text) && isBlank(s.text[s.at]) {
		s.at++
	}
}

// isBlank reports whether c is white space of JSON (RFC 8259, section 2).
func isBlank(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

// peek is the next byte that is no blank.
func (s *scanner) peek() (byte, error) {
	s.skipBlanks()
	if s.at == len(s.text) {
		return 0, io.ErrUnexpectedEOF
	}
	return s.text[s.at], nil
}

// token counts the token that begins with the next byte that is no blank.
func (s *scanner) token() (byte, error) {
	if s.left--; s.left < 0 {
		return 0, errors.New("it has too many parts")
	}
	return s.peek()
}

// value reads one value.
func (s *scanner) value(depth int, keys keyRule) error {
	first, err := s.token()
	if err != nil {
		return err
	}

	switch first {
	case '{', '[':
		if depth == 0 {
			return errors.New("it is nested too deeply")
		}
		if first == '{' {
			return s.object(depth-1, keys)
		}
		return s.members(']', func() error { return s.value(depth-1, keys) })
	case '"':
		_, err := s.quoted()
		return err
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	}
	return s.number()
}

// members reads what stands between commas up to end.
func (s *scanner) members(end byte, member func() error) error {
	s.at++ // the opening one

	for first := true; ; first = false {
		next, err := s.peek()
		switch {
		case err != nil:
			return err
		case next == end:
			_, err := s.token()
			s.at++
			return err
		case !first && next != ',':
			return fmt.Errorf("%q stands where a comma belongs", next)
		case !first:
			s.at++
		}
		if err := member(); err != nil {
			return err
		}
	}
}

// object reads an object, whose keys follow the rule. Below annotations and
// predicates all keys are data.
func (s *scanner) object(depth int, keys keyRule) error {
	var seen map[string]bool
	return s.members('}', func() error {
		key, err := s.key()
		if err != nil {
			return err
		}

		name := key
		if keys == fieldKeys {
			name = fold(key)
			if want, known := fieldNames[name]; known && want != key {
				return fmt.Errorf("the key %.40q is %q in another case", key, want)
			}
		}
		if seen[name] {
			return fmt.Errorf("the key %.40q stands there twice", key)
		}
		if seen == nil {
			seen = map[string]bool{}
		}
		seen[name] = true

		if key == "annotations" || key == "optional" || key == "predicate" {
			return s.value(depth, dataKeys)
		}
		return s.value(depth, keys)
	})
}

// key reads a key and the colon behind it.
func (s *scanner) key() (string, error) {
	if first, err := s.token(); err != nil {
		return "", err
	} else if first != '"' {
		return "", errors.New("a key is not a string")
	}

	text, err := s.quoted()
	if err != nil {
		return "", err
	}
	if next, err := s.peek(); err != nil {
		return "", err
	} else if next != ':' {
		return "", fmt.Errorf("%q stands where a colon belongs", next)
	}
	s.at++

	if bytes.IndexByte(text, '\\') < 0 {
		return string(text[1 : len(text)-1]), nil
	}
	var key string
	err = json.Unmarshal(text, &key)
	return key, err
}

// quoted reads a string, quotes and all.
func (s *scanner) quoted() ([]byte, error) {
	for i := s.at + 1; i < len(s.text); i++ {
		switch c := s.text[i]; {
		case c == '"':
			text := s.text[s.at : i+1]
			s.at = i + 1
			return text, nil
		case c < ' ':
			return nil, errors.New("a string holds a control character")
		case c == '\\':
			n := escape(s.text[i+1:])
			if n == 0 {
				return nil, errors.New("a string holds an escape that means nothing")
			}
			i += n
		}
	}
	return nil, io.ErrUnexpectedEOF
}

// escape is how many bytes belong to the backslash before b, 0 for none that
// may follow one.
func escape(b []byte) int {
	switch {
	case len(b) == 0 || strings.IndexByte(`"\/bfnrtu`, b[0]) < 0:
		return 0
	case b[0] != 'u':
		return 1
	case len(b) < 5:
		return 0
	}
	for _, c := range b[1:5] {
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') {
			return 0
		}
	}
	return 5
}

func (s *scanner) word(w string) error {
	if !bytes.HasPrefix(s.text[s.at:], []byte(w)) {
		return fmt.Errorf("a word that is not %s", w)
	}
	s.at += len(w)
	return nil
}

func (s *scanner) number() error {
	s.one("-")
	whole := s.one("0")
	if !whole {
		whole = s.digits()
	}
	if !whole || s.one(".") && !s.digits() {
		return errors.New("it holds something that is no value")
	}
	if s.one("eE") {
		s.one("+-")
		if !s.digits() {
			return errors.New("a number has no exponent behind its e")
		}
	}
	return nil
}

// one reads one byte if it is among set.
func (s *scanner) one(set string) bool {
	if s.at == len(s.text) || strings.IndexByte(set, s.text[s.at]) < 0 {
		return false
	}
	s.at++
	return true
}

func (s *scanner) digits() bool {
	start := s.at
	for s.at < len(s.text) && s.text[s.at] >= '0' && s.text[s.at] <= '9' {
		s.at++
	}
	return s.at > start
}

// fold is the equivalence by which encoding/json matches keys to fields:
// Unicode simple folding, so that U+017F is an s and U+212A a k.
func fold(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0 {
		return strings.ToUpper(s) // the least of each letter's
	}
	folded := make([]rune, 0, len(s))
	for _, r := range s {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		folded = append(folded, least)
	}
	return string(folded)
}

// fieldNames are the names that decide something, by their folded form: the
// OCI image spec's manifest, index and descriptor, Docker's schema 1, the
// simple-signing payload, DSSE's envelope and in-toto's statement. DSSE's keyid
// is not among them: it decides nothing, and a bundle's log entries have a
// keyId of their own.
var fieldNames = folded(
	"schemaVersion",
	"mediaType",
	"artifactType",
	"config",
	"layers",
	"manifests",
	"blobs",
	"subject",
	"fsLayers",
	"history",
	"signatures",
	"digest",
	"size",
	"urls",
	"data",
	"platform",
	"annotations",
	"critical",
	"identity",
	"docker-reference",
	"image",
	"docker-manifest-digest",
	"type",
	"optional",
	"payload",
	"payloadType",
	"sig",
	"_type",
	"predicateType",
	"predicate",
)

func folded(names ...string) map[string]string {
	m := make(map[string]string, len(names))
	for _, n := range names {
		m[fold(n)] = n
	}
	return m
}
