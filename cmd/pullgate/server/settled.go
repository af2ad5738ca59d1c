package server

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/pullgate/pullgate/cmd/pullgate/config"
	"github.com/pullgate/pullgate/policy"
)

const (
	maxReads  = 5 // of files that keep changing, beside the one that finds them
	readAgain = 20 * time.Millisecond
)

// settled calls read until no file has changed while it was read, and notes the
// fingerprint of what was read. The fingerprint is taken on both sides: with one
// taken afterwards only, a change between the two would pass for loaded, and
// never be. settled returns false where the files do not hold still.
func settled(read func() (*Loaded, []policy.Problem)) (l *Loaded, problems []policy.Problem, ok bool) {
	l, problems = read() // finds the files
	if l == nil {
		return nil, problems, true
	}
	if !isRegular(l.Config.File()) {
		l.sum = fingerprint(l.files()) // a pipe can be read only once
		return l, problems, true
	}

	for n := range maxReads {
		if n > 0 {
			time.Sleep(readAgain)
		}

		before := fingerprint(l.files())
		l, problems = read()
		if l == nil {
			return nil, problems, true
		}
		if fingerprint(l.files()) == before {
			l.sum = before
			return l, problems, true
		}
	}
	return l, problems, false
}

func isRegular(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().IsRegular()
}

// fingerprint is a hash of the files' names and contents. Empty names do not
// count; what cannot be read counts as empty, and loading it says why.
func fingerprint(files []string) (sum [sha256.Size]byte) {
	h := sha256.New()
	slices.Sort(files)

	for _, name := range slices.Compact(files) {
		if name == "" {
			continue
		}
		fmt.Fprintf(h, "%d:%s", len(name), name)

		f, err := os.Open(name)
		if err != nil {
			continue
		}
		n, _ := io.Copy(h, io.LimitReader(f, config.MaxBytes+1))
		fmt.Fprintf(h, "|%d|", n)
		_ = f.Close()
	}

	h.Sum(sum[:0])
	return sum
}
