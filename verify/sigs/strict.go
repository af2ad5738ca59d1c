package sigs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	if !utf8.Valid(b) {
		return fmt.Errorf("%w: it is not UTF-8", ErrJSON)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	w := walker{dec: dec, left: maxTokens}
	if err := w.value(maxDepth, false); err != nil {
		return fmt.Errorf("%w: %w", ErrJSON, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: something follows the value", ErrJSON)
	}
	return nil
}

type walker struct {
	dec  *json.Decoder
	left int // tokens that may still come
}

func (w *walker) next() (json.Token, error) {
	if w.left--; w.left < 0 {
		return nil, errors.New("it has too many parts")
	}
	t, err := w.dec.Token()
	if errors.Is(err, io.EOF) {
		return nil, io.ErrUnexpectedEOF
	}
	return t, err
}

// value reads one value; exact says that its keys are data, not field names.
func (w *walker) value(depth int, exact bool) error {
	t, err := w.next()
	if err != nil {
		return err
	}
	open, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	if depth == 0 {
		return errors.New("it is nested too deeply")
	}
	if open == '{' {
		return w.object(depth, exact)
	}
	for w.dec.More() {
		if err := w.value(depth-1, exact); err != nil {
			return err
		}
	}
	_, err = w.next() // the closing bracket
	return err
}

func (w *walker) object(depth int, exact bool) error {
	seen := map[string]bool{}
	for w.dec.More() {
		t, err := w.next()
		if err != nil {
			return err
		}
		key, ok := t.(string)
		if !ok {
			return errors.New("a key is not a string")
		}
		name := key
		if !exact {
			name = fold(key)
			if want, known := fieldNames[name]; known && want != key {
				return fmt.Errorf("the key %.40q is %q in another case", key, want)
			}
		}
		if seen[name] {
			return fmt.Errorf("the key %.40q stands there twice", key)
		}
		seen[name] = true
		if err := w.value(depth-1, exact || key == "annotations" || key == "optional" || key == "predicate"); err != nil {
			return err
		}
	}
	_, err := w.next() // the closing brace
	return err
}

// fold is the equivalence by which encoding/json matches keys to fields:
// Unicode simple folding, so that U+017F is an s and U+212A a k.
func fold(s string) string {
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
var fieldNames = folded("schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "blobs", "subject",
	"fsLayers", "history", "signatures", "digest", "size", "urls", "data", "platform", "annotations",
	"critical", "identity", "docker-reference", "image", "docker-manifest-digest", "type", "optional",
	"payload", "payloadType", "sig", "_type", "predicateType", "predicate")

func folded(names ...string) map[string]string {
	m := make(map[string]string, len(names))
	for _, n := range names {
		m[fold(n)] = n
	}
	return m
}
