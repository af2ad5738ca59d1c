package upstream

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
)

var (
	// contentRange is one range of bytes of a blob, whose size need not be said (RFC
	// 9110, section 14.4).
	contentRange = regexp.MustCompile(`^(?i:bytes) ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)$`)

	// requestedRange is first-last, first- or -suffix (RFC 9110, section 14.1.2).
	requestedRange = regexp.MustCompile(`^bytes=([0-9]{0,18})-([0-9]{0,18})$`)
)

var errRange = errors.New("its Content-Range is malformed")

// part is a range of bytes of a blob.
type part struct {
	first, last int64
	total       int64 // size of the blob; -1: not known
}

func (p part) length() int64 { return p.last - p.first + 1 }

// String is p as Content-Range holds it.
func (p part) String() string {
	total := "*"
	if p.total >= 0 {
		total = strconv.FormatInt(p.total, 10)
	}
	return fmt.Sprintf("bytes %d-%d/%s", p.first, p.last, total)
}

// checkRange compares the Content-Range of a 206 with the range asked for: a part
// of a blob cannot be hashed, so it must at least be the part that was asked for.
// length is that of the answer, or -1 if it is not known. Where the registry does
// not say the size of the blob, the part's end is its word, and a suffix is
// refused.
func checkRange(asked, got string, length int64) (part, error) {
	match := contentRange.FindStringSubmatch(got)
	if match == nil {
		return part{}, errRange
	}

	p := part{first: number(match[1]), last: number(match[2]), total: -1}
	if match[3] != "*" {
		p.total = number(match[3])
	}
	if p.last < p.first || p.total >= 0 && p.last >= p.total || length >= 0 && length != p.length() {
		return part{}, errRange
	}

	want := requestedRange.FindStringSubmatch(asked)
	if want == nil {
		return part{}, errors.New("it sent a part where the whole was asked for")
	}
	if !sameRange(want[1], want[2], p) {
		return part{}, fmt.Errorf("asked for %s it sent %s", asked, got)
	}

	return p, nil
}

// sameRange reports whether a part lies where from and to, as a client writes
// them, say. It may end sooner.
func sameRange(from, to string, p part) bool {
	switch {
	case from == "" && p.total < 0: // a suffix of what has no known end
		return false
	case from == "": // the last bytes of the blob
		return p.first == max(0, p.total-number(to))
	case to == "":
		return p.first == number(from)
	}
	return p.first == number(from) && p.last <= number(to)
}

// number parses at most 18 digits, which always fit. No digits are 0.
func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}

	return n
}
