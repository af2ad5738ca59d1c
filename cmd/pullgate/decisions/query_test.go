package decisions

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/cmd/pullgate/show"
)

// TestQuery: what each query finds among three records of an image, one of another
// and a line that is no record.
func TestQuery(t *testing.T) {
	t.Parallel()
	s := &stream{w: io.Discard}
	other := someRecord(3)
	other.Image, other.Outcome, other.Reference = "ghcr.io/acme/other", "allowed", other.Digest
	foreign := entry{line: []byte("{\"time\":\"not ours\"}\n")}
	if _, err := s.write(append(encoded(3), entry{other, appendLine(nil, &other)}, foreign)); err != nil {
		t.Fatal(err)
	}

	for _, row := range []struct {
		id, image, outcome string
		limit, want        int
	}{
		{want: 4},
		{limit: 2, want: 2},
		{image: "ghcr.io/acme/app", want: 3},
		{image: "ghcr.io/acme/app:v1", want: 3},
		{image: "ghcr.io/acme/app:v2"},
		{image: "ghcr.io/acme/app@" + other.Digest, want: 3},
		{image: "ghcr.io/acme/other@" + other.Digest, want: 1},
		{outcome: "allowed", want: 1},
		{outcome: "error"},
		{image: "ghcr.io/acme/app", outcome: "allowed"},
		{image: "acme/app"},
		{id: strings.Repeat("A", 26)},
	} {
		t.Run(fmt.Sprintf("%+v", row), func(t *testing.T) {
			q, err := NewQuery(row.id, row.image, row.outcome, row.limit)
			if err != nil {
				t.Fatal(err)
			}
			found, _, err := q.find(t.Context(), s.newest())
			if err != nil || len(found) != row.want {
				t.Errorf("found %d, %v", len(found), err)
			}
		})
	}

	t.Run("client left", func(t *testing.T) {
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, more, err := (Query{Limit: 1}).find(ended, s.newest()); err == nil || !more {
			t.Errorf("%v, %v", more, err)
		}
	})
}

// TestMalformedQuery: what people write is refused with a printable error.
func TestMalformedQuery(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		id, image, outcome string
		limit              int
	}{
		{id: "../x"},
		{id: "\x1b"},
		{image: "a b"},
		{image: "\x1b[2J"},
		{image: strings.Repeat("a", 2000)},
		{outcome: "fine"},
		{limit: -1},
		{limit: maxLimit + 1},
	} {
		_, err := NewQuery(row.id, row.image, row.outcome, row.limit)
		if err == nil || show.Printable(err.Error()) != err.Error() {
			t.Errorf("%+v is taken, or its error is not printable: %v", row, err)
		}
	}
}

// TestSearchWithoutDecoding: a line that cannot match a query is not decoded: a
// search through all that is kept would not end in time.
func TestSearchWithoutDecoding(t *testing.T) {
	t.Parallel()
	lines := func(yield func([]byte, error) bool) {
		for _, outcome := range []string{`:"allowed"`, `:"denied"`, ` : "allowed"`} {
			if !yield([]byte(`{"image":"ghcr.io/acme/app","error":"error","outcome"`+outcome+`, cut off`), nil) {
				return
			}
		}
	}

	for name, row := range map[string]struct {
		query Query
		want  int // lines that are decoded
	}{
		"all":           {Query{}, 3},
		"outcome":       {Query{Outcome: "denied"}, 2}, // one of them written by another program
		"other outcome": {Query{Outcome: "error"}, 1},
		"id":            {Query{ID: strings.Repeat("A", 26)}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			decoded := 0
			for range row.query.scan(t.Context(), lines) {
				decoded++
			}
			if decoded != row.want {
				t.Errorf("%d lines were decoded, want %d", decoded, row.want)
			}
		})
	}
}
