package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"unicode"
	"unicode/utf8"
)

// strictByTokens is CheckStrict said in encoding/json's own tokens: slower, and
// with a grammar that many others rely on.
func strictByTokens(b []byte, maxDepth, maxTokens int) bool {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	w := walker{dec: dec, left: maxTokens}
	if !utf8.Valid(b) || w.value(maxDepth, false) != nil {
		return false
	}
	_, err := dec.Token()
	return errors.Is(err, io.EOF)
}

var errStrict = errors.New("refused")

type walker struct {
	dec  *json.Decoder
	left int
}

func (w *walker) next() (json.Token, error) {
	if w.left--; w.left < 0 {
		return nil, errStrict
	}
	return w.dec.Token()
}

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
		return errStrict
	}
	seen := map[string]bool{}
	for w.dec.More() {
		inside := exact
		if open == '{' {
			t, err := w.next()
			if err != nil {
				return err
			}
			key, ok := t.(string)
			name := key
			if !exact {
				name = foldByRune(key)
				if want, known := fieldNames[name]; known && want != key {
					return errStrict
				}
			}
			if !ok || seen[name] {
				return errStrict
			}
			seen[name] = true
			inside = exact || key == "annotations" || key == "optional" || key == "predicate"
		}
		if err := w.value(depth-1, inside); err != nil {
			return err
		}
	}
	_, err = w.next() // the closing one
	return err
}

func foldByRune(s string) string {
	var folded []rune
	for _, r := range s {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		folded = append(folded, least)
	}
	return string(folded)
}
