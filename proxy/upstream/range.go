package upstream

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
)

var (
	// contentRange is one range of bytes of a blob whose size is known (RFC 9110,
	// section 14.4).
	contentRange = regexp.MustCompile(`^bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})$`)

	// requestedRange is first-last, first- or -suffix (RFC 9110, section 14.1.2).
	requestedRange = regexp.MustCompile(`^bytes=([0-9]{0,18})-([0-9]{0,18})$`)
)

var errRange = errors.New("its Content-Range is malformed")

// checkRange compares the Content-Range of a 206 with the range asked for: a part
// of a blob cannot be hashed, so it must at least be the part that was asked for.
// length is that of the answer, or -1 if it is not known. checkRange returns the
// length of the part and the size of the blob.
func checkRange(asked, got string, length int64) (part, size int64, err error) {
	match := contentRange.FindStringSubmatch(got)
	if match == nil {
		return 0, 0, errRange
	}

	first, last, total := number(match[1]), number(match[2]), number(match[3])
	if last < first || last >= total || length >= 0 && length != last-first+1 {
		return 0, 0, errRange
	}

	want := requestedRange.FindStringSubmatch(asked)
	if want == nil {
		return 0, 0, errors.New("it sent a part where the whole was asked for")
	}

	wantFirst, wantLast := number(want[1]), min(number(want[2]), total-1)
	switch {
	case want[1] == "": // a suffix: the last bytes of the blob
		wantFirst, wantLast = max(0, total-number(want[2])), total-1
	case want[2] == "":
		wantLast = total - 1
	}

	if first != wantFirst || last > wantLast {
		return 0, 0, fmt.Errorf("asked for %s it sent %s", asked, got)
	}

	return last - first + 1, total, nil
}

// number parses at most 18 digits, which always fit. No digits are 0.
func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}

	return n
}
