package replay

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pullgate/pullgate/cmd/pullgate/decisions"
	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify"
)

var (
	outer = "sha256:" + strings.Repeat("1", 64)
	inner = "sha256:" + strings.Repeat("2", 64)
	leaf  = "sha256:" + strings.Repeat("3", 64)
)

// history reads records of demo.example/app from a file, as they would be recorded.
func history(t *testing.T, records ...decisions.Record) *History {
	t.Helper()
	var text []byte
	for _, r := range records {
		r.ID, r.Kind, r.Image = "A", decisions.KindManifest, "demo.example/app"
		line, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		text = append(append(text, line...), '\n')
	}
	file := filepath.Join(t.TempDir(), "d.jsonl")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}

	h, err := ReadHistory(t.Context(), []string{file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// judgeFrom returns a judge that knows some verdicts by reference, and remembers
// what it was asked for. It fails to tell about everything else.
func judgeFrom(verdicts map[string]verify.Outcome) (judge Judge, asked func() []string) {
	var mu sync.Mutex
	var list []string
	judge = func(_ context.Context, name policy.Image, _ policy.Client) (verify.Verdict, error) {
		mu.Lock()
		defer mu.Unlock()
		list = append(list, name.Reference.String())
		outcome, ok := verdicts[name.Reference.String()]
		if !ok {
			return verify.Verdict{}, errors.New("registry down")
		}
		return verify.Verdict{Outcome: outcome}, nil
	}
	return judge, func() []string { return list }
}

func noProgress(int, int) {}

// TestParents: an image's indexes are asked for before it, the outermost first.
func TestParents(t *testing.T) {
	t.Parallel()
	h := history(t,
		decisions.Record{Digest: leaf, Parent: inner, Outcome: "allowed"},
		decisions.Record{Digest: inner, Parent: outer, Outcome: "allowed"},
	)
	var got []string
	for _, i := range h.images {
		if i.name.Reference.String() == leaf {
			for _, d := range h.above(i) {
				got = append(got, d.String())
			}
		}
	}
	if want := []string{outer, inner}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestGroups: where an image is listed, by what came of it and what would now.
func TestGroups(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		was  string
		now  map[string]verify.Outcome
		list func(c *Comparison) []Change // nil: nothing changes
	}{
		"refused": {
			was:  "allowed",
			now:  map[string]verify.Outcome{leaf: verify.Denied},
			list: func(c *Comparison) []Change { return c.Refused },
		},
		"admitted": {
			was:  "denied",
			now:  map[string]verify.Outcome{leaf: verify.Allowed},
			list: func(c *Comparison) []Change { return c.Admitted },
		},
		"warned": {
			was:  "allowed",
			now:  map[string]verify.Outcome{leaf: verify.Warned},
			list: func(c *Comparison) []Change { return c.Warned },
		},
		"unverified": {
			was:  "allowed",
			now:  map[string]verify.Outcome{leaf: verify.WarnedUnverified},
			list: func(c *Comparison) []Change { return c.Undecided },
		},
		"error": {
			was:  "allowed",
			list: func(c *Comparison) []Change { return c.Undecided },
		},
		"still denied":  {was: "denied", now: map[string]verify.Outcome{leaf: verify.Denied}},
		"still allowed": {was: "allowed", now: map[string]verify.Outcome{leaf: verify.Allowed}},
	} {
		t.Run(name, func(t *testing.T) {
			h := history(t, decisions.Record{Digest: leaf, Outcome: row.was})
			judge, _ := judgeFrom(row.now)
			if err := h.Judge(t.Context(), judge, noProgress); err != nil {
				t.Fatal(err)
			}
			c := h.Compare()
			listed := len(c.Refused) + len(c.Admitted) + len(c.Warned) + len(c.Undecided)
			switch {
			case row.list == nil && (listed != 0 || c.Same != 1):
				t.Errorf("it is listed: %+v", c)
			case row.list != nil && (listed != 1 || len(row.list(c)) != 1 || c.Same != 0):
				t.Errorf("it is not where it belongs: %+v", c)
			}
		})
	}
}

// TestUndecidedParent: a part is not refused when the index that might let it in
// could not be judged.
func TestUndecidedParent(t *testing.T) {
	t.Parallel()
	h := history(t, decisions.Record{Digest: leaf, Parent: outer, Outcome: "allowed"})
	judge, asked := judgeFrom(map[string]verify.Outcome{leaf: verify.Denied})
	if err := h.Judge(t.Context(), judge, noProgress); err != nil {
		t.Fatal(err)
	}
	if got := asked(); !slices.Equal(got, []string{outer, leaf}) {
		t.Errorf("asked for %v", got)
	}
	if c := h.Compare(); len(c.Undecided) != 1 || len(c.Refused) != 0 {
		t.Errorf("%+v", c)
	}
}

// TestJSONKeys: an empty comparison has every list as a list.
func TestJSONKeys(t *testing.T) {
	t.Parallel()
	var got map[string]any
	if err := json.Unmarshal([]byte(history(t).Compare().JSON()), &got); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"refused", "admitted", "warned", "undecided"} {
		if list, ok := got[key].([]any); !ok || len(list) != 0 {
			t.Errorf("%s is %v", key, got[key])
		}
	}
}

// TestUnknownUpstream: a request for a registry that the gate does not have names
// no image to judge, and is a decision all the same.
func TestUnknownUpstream(t *testing.T) {
	t.Parallel()
	h := &History{byName: map[asked]*image{}}
	r := decisions.Record{Kind: "unknown", Path: "/v2/other.example/app/manifests/v1", Outcome: "error", Status: 404}
	if !h.add(&r) || h.failed != 1 || h.Images() != 0 {
		t.Errorf("%d failed, %d images", h.failed, h.Images())
	}
}
