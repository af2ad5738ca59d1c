package decisions

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
)

// newestLines yields the lines of files, from the last line of the first file to
// the first line of the last. A file that is missing is passed over; one that is
// rotated meanwhile is read once. A line is valid until the next one.
func newestLines(files []string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		var before []fs.FileInfo
		for _, name := range files {
			more, info, err := newestLinesOf(name, before, yield)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				more = yield(nil, fmt.Errorf("read decisions: %w", err))
			}
			if !more {
				return
			}
			before = append(before, info)
		}
	}
}

// newestLinesOf yields the lines of one file, unless it is one of those before.
func newestLinesOf(
	name string,
	before []fs.FileInfo,
	yield func([]byte, error) bool,
) (more bool, info fs.FileInfo, err error) {
	// Opening a pipe would wait for a writer.
	if info, err = os.Stat(name); err != nil {
		return false, nil, err
	}
	if !info.Mode().IsRegular() {
		return false, nil, fmt.Errorf("%s is no regular file", name)
	}

	f, err := os.Open(name)
	if err != nil {
		return false, nil, err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return false, nil, err
	}

	read := slices.ContainsFunc(before, func(b fs.FileInfo) bool { return os.SameFile(b, info) })
	if read {
		return true, info, nil
	}
	more, err = backward(f, info.Size(), yield)
	return more, info, err
}

const backwardBlock = 256 << 10 // bytes

// backward yields the lines of the first size bytes of r, the last one first. A
// line longer than maxLineBytes is none of ours: it comes as an empty one.
func backward(r io.ReaderAt, size int64, yield func([]byte, error) bool) (more bool, err error) {
	block := make([]byte, backwardBlock)
	var rest []byte // the end of a line whose beginning has not been read
	long := false   // rest is longer than any line of ours

	for end := size; end > 0; {
		from := max(0, end-backwardBlock)
		part := block[:end-from]
		if _, err := r.ReadAt(part, from); err != nil {
			return false, err
		}

		for {
			at := bytes.LastIndexByte(part, '\n')
			if at < 0 {
				break
			}

			line := part[at+1:]
			if len(rest) > 0 {
				line = append(bytes.Clone(line), rest...)
			}
			if long || len(line) > maxLineBytes {
				line = []byte{}
			}

			// The last newline of the file ends a line, and begins none.
			last := end == size && at == len(part)-1 && len(rest) == 0
			if !last && !yield(line, nil) {
				return false, nil
			}
			part, rest, long = part[:at], rest[:0], false
		}

		long = long || len(part)+len(rest) > maxLineBytes
		if long {
			rest = rest[:0]
		} else {
			rest = append(bytes.Clone(part), rest...)
		}
		end = from
	}

	switch {
	case long:
		return yield([]byte{}, nil), nil
	case len(rest) > 0:
		return yield(rest, nil), nil
	}
	return true, nil
}
