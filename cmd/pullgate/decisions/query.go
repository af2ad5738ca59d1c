package decisions

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strings"

	"github.com/pullgate/pullgate/cmd/pullgate/imagename"
	"github.com/pullgate/pullgate/cmd/pullgate/show"
	"github.com/pullgate/pullgate/policy"
)

const (
	usualLimit     = 20       // records found without a limit
	maxLimit       = 1000     // records found at once
	maxFoundBytes  = 16 << 20 // of the lines found at once
	maxImageLength = 1000     // bytes of an image name
)

var idPattern = regexp.MustCompile(`^[A-Z2-7]{26}$`)

// IsID reports whether s is written as the id of a decision is.
func IsID(s string) bool { return idPattern.MatchString(s) }

// Query says which records are wanted. A field that is empty matches all, and the
// zero Query every record.
type Query struct {
	ID      string
	Image   policy.Image // with a reference or without
	Outcome string
	Kind    string
	Limit   int // records that are found at most
}

// NewQuery checks what people wrote. A zero limit means the usual one. Its errors
// are printable.
func NewQuery(id, image, outcome string, limit int) (Query, error) {
	q := Query{ID: id, Outcome: outcome, Limit: limit}
	if limit == 0 {
		q.Limit = usualLimit
	}

	if q.Limit < 0 || q.Limit > maxLimit {
		return q, fmt.Errorf("limit must be between 1 and %d", maxLimit)
	}
	if id != "" && !IsID(id) {
		const message = "%.40q is no decision's id: that is 26 letters and digits, as in the Pullgate-Decision header"
		return q, fmt.Errorf(message, id)
	}
	if outcome != "" && !slices.Contains(Outcomes(), outcome) {
		return q, fmt.Errorf("outcome %.40q must be one of %s", outcome, strings.Join(Outcomes(), ", "))
	}

	var err error
	if image != "" {
		q.Image, err = parseImage(image)
	}
	return q, err
}

// parseImage reads an image name. One that has neither a tag nor a digest stands
// for the whole repository.
func parseImage(image string) (policy.Image, error) {
	// The parser's errors repeat the name as it is.
	if len(image) > maxImageLength || show.Printable(image) != image {
		return policy.Image{}, fmt.Errorf("%.40q is no image name", image)
	}

	if repo, ok := imagename.ParseRepository(image); ok {
		return policy.Image{Repository: repo}, nil
	}
	return imagename.Parse(image)
}

func (q Query) matches(r *Record) bool {
	repo, reference := q.Image.Repository.String(), q.Image.Reference.String()
	return (q.ID == "" || r.ID == q.ID) &&
		(repo == "" || r.Image == repo) &&
		(q.Outcome == "" || r.Outcome == q.Outcome) &&
		(q.Kind == "" || r.Kind == q.Kind) &&
		(reference == "" || r.Reference == reference || r.Digest == reference)
}

// ErrUnreadable stands for a line that is no record.
var ErrUnreadable = errors.New("the line is no record of a decision")

// match is a record that a query matches.
type match struct {
	Record
	bytes int // of its line
}

// scan yields the records that q matches among lines, in their order and whatever
// q.Limit is. It yields ErrUnreadable for each line that it looked at and that is
// no record. It ends with an error when ctx ends.
func (q Query) scan(ctx context.Context, lines iter.Seq2[[]byte, error]) iter.Seq2[match, error] {
	needles := q.needles()

	return func(yield func(match, error) bool) {
		for line, err := range lines {
			if err == nil && ctx.Err() != nil {
				yield(match{}, fmt.Errorf("read decisions: %w", ctx.Err()))
				return
			}
			if err != nil {
				if !yield(match{}, err) {
					return
				}
				continue
			}

			if !q.mayMatch(line, needles) {
				continue
			}

			r, ok := parseLine(line)
			switch {
			case !ok:
				err = ErrUnreadable
			case !q.matches(&r):
				continue
			}
			if !yield(match{Record: r, bytes: len(line)}, err) {
				return
			}
		}
	}
}

// needles are texts that stand as they are in the line of every record that q
// matches.
func (q Query) needles() [][]byte {
	var needles [][]byte
	for _, text := range []string{q.ID, q.Image.Repository.String(), q.Image.Reference.String()} {
		if text != "" {
			needles = append(needles, []byte(text))
		}
	}
	return needles
}

// How two fields begin in a line of ours. In a text, the quotes would have
// backslashes before them.
var (
	outcomeKey = []byte(`"outcome":"`)
	kindKey    = []byte(`"kind":"`)
)

// mayMatch reports whether the record in a line may be one that q matches. To look
// at the text costs a tenth of decoding it, so that a search through all that is
// kept ends in time.
func (q Query) mayMatch(line []byte, needles [][]byte) bool {
	for _, n := range needles {
		if !bytes.Contains(line, n) {
			return false
		}
	}
	return mayHold(line, outcomeKey, q.Outcome) && mayHold(line, kindKey, q.Kind)
}

// mayHold reports whether the field that begins with key may have the value want.
// Another program may have written the line otherwise.
func mayHold(line, key []byte, want string) bool {
	if want == "" {
		return true
	}
	_, rest, ours := bytes.Cut(line, key)
	return !ours || bytes.HasPrefix(rest, []byte(want+`"`))
}

// find returns the first records that q matches among lines; more means that
// there may be others. It passes over lines that are no records: the last line of
// a file may be unfinished. An error comes with what was found before it.
func (q Query) find(ctx context.Context, lines iter.Seq2[[]byte, error]) (found []Record, more bool, err error) {
	size := 0
	for m, failed := range q.scan(ctx, lines) {
		if errors.Is(failed, ErrUnreadable) {
			continue
		}
		if failed != nil {
			// What could not be read may hold the newest record, which may say the
			// opposite of an older one.
			err = errors.Join(err, failed)
			if len(found) == 0 || ctx.Err() != nil {
				return found, true, err
			}
			continue
		}

		if size += m.bytes; len(found) == q.Limit || size > maxFoundBytes {
			return found, true, err
		}
		found = append(found, m.Record)
	}
	return found, false, err
}

// FindIn returns the newest records of files that q matches. The files are given
// with the newest first.
func (q Query) FindIn(ctx context.Context, files []string) ([]Record, error) {
	found, _, err := q.find(ctx, newestLines(files))
	if len(found) > 0 {
		return found, nil // what could not be read is older than the record that was asked for
	}
	return nil, err
}

// ReadAll yields every record of files, the newest first, with ErrUnreadable for
// each line that is none. Any other error means that records are missing.
func ReadAll(ctx context.Context, files []string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for m, err := range (Query{}).scan(ctx, newestLines(files)) {
			if !yield(m.Record, err) {
				return
			}
		}
	}
}
