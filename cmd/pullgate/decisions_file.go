package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// decisionFile appends lines to a file that is rotated when it is full: the
// disk it takes is bounded by maxBytes for it and for each of the older ones.
// A file that somebody moves or removes meanwhile is made anew.
type decisionFile struct {
	path     string
	maxBytes int64
	keep     int // older files beside it

	f    *os.File // nil: to be opened
	size int64
	text bytes.Buffer // made once and used again
}

// write loses what it cannot write, never a part of a line: the next decision
// always begins a line of its own.
func (d *decisionFile) write(batch []recorded) (lost int, err error) {
	text := &d.text
	if text.Reset(); text.Cap() > maxDecisionsKept {
		*text = bytes.Buffer{}
	}
	waiting := 0
	flush := func() {
		if waiting == 0 {
			return
		}
		if werr := d.append(text.Bytes()); werr != nil {
			lost += waiting
			err = errors.Join(err, werr)
		}
		text.Reset()
		waiting = 0
	}
	if err := d.open(); err != nil {
		return len(batch), err
	}
	for _, r := range batch {
		if d.size+int64(text.Len()+len(r.line)) > d.maxBytes {
			flush()
			if rerr := d.rotate(); rerr != nil {
				lost, err = lost+1, errors.Join(err, rerr)
				continue
			}
		}
		text.Write(r.line)
		waiting++
	}
	flush()
	return lost, err
}

func (d *decisionFile) append(text []byte) error {
	n, err := d.f.Write(text)
	if err == nil {
		d.size += int64(n)
		return nil
	}
	// Half a line is taken back; where even that fails, open mends it.
	if n > 0 && d.f.Truncate(d.size) != nil {
		return errors.Join(fmt.Errorf("write decisions: %w", err), d.shut())
	}
	return fmt.Errorf("write decisions: %w", err)
}

func (d *decisionFile) shut() error {
	f := d.f
	d.f = nil
	if f == nil {
		return nil
	}
	return f.Close()
}

// open makes sure that d.f is the file of that name.
func (d *decisionFile) open() error {
	if d.f != nil {
		here, err1 := d.f.Stat()
		there, err2 := os.Stat(d.path)
		if err1 == nil && err2 == nil && os.SameFile(here, there) {
			d.size = here.Size()
			return nil
		}
		if err := d.shut(); err != nil {
			return fmt.Errorf("close decisions: %w", err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(d.path), 0o700); err != nil {
		return fmt.Errorf("make the folder for decisions: %w", err)
	}
	if info, err := os.Stat(d.path); err == nil && !info.Mode().IsRegular() { // opening a pipe would wait for a reader
		return fmt.Errorf(
			"decisions.file %s is no regular file; for standard output write decisions: {to: stdout}",
			d.path,
		)
	}
	f, err := os.OpenFile(d.path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open decisions: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("open decisions: %w", err), f.Close())
	}
	d.f, d.size = f, info.Size()
	return d.mend()
}

// mend ends a line that a crash or a full disk has left unfinished.
func (d *decisionFile) mend() error {
	last := []byte{'\n'}
	if d.size > 0 {
		if _, err := d.f.ReadAt(last, d.size-1); err != nil {
			return errors.Join(fmt.Errorf("read decisions: %w", err), d.shut())
		}
	}
	if last[0] == '\n' {
		return nil
	}
	if err := d.append([]byte{'\n'}); err != nil {
		return errors.Join(err, d.shut())
	}
	return nil
}

// rotate moves every file one on; the oldest is overwritten.
func (d *decisionFile) rotate() error {
	if err := d.shut(); err != nil {
		return fmt.Errorf("rotate decisions: %w", err)
	}
	for n := d.keep; n > 0; n-- {
		if err := os.Rename(rotated(d.path, n-1), rotated(d.path, n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("rotate decisions: %w", err)
		}
	}
	return d.open()
}

// rotated is the name of the nth older file: decisions.1.jsonl.
func rotated(path string, n int) string {
	if n == 0 {
		return path
	}
	ext := filepath.Ext(path)
	return strings.TrimSuffix(path, ext) + "." + strconv.Itoa(n) + ext
}

func (d *decisionFile) newest() iter.Seq2[[]byte, error] {
	return newestLines(decisionFiles(d.path, d.keep))
}

func (d *decisionFile) close() error { return d.shut() }

// decisionFiles are path and its older ones, the newest first.
func decisionFiles(path string, keep int) []string {
	files := make([]string, keep+1)
	for n := range files {
		files[n] = rotated(path, n)
	}
	return files
}

// newestLines yields the lines of files from the last of the first to the first
// of the last. A file that is missing is none; one that is moved on meanwhile
// is read once. A line is good until the next one.
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

func newestLinesOf(
	name string,
	before []fs.FileInfo,
	yield func([]byte, error) bool,
) (more bool, info fs.FileInfo, err error) {
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
	for _, b := range before {
		if os.SameFile(b, info) {
			return true, info, nil
		}
	}
	more, err = backward(f, info.Size(), yield)
	return more, info, err
}

const backwardBlock = 256 << 10 // bytes

// backward yields the lines of the first size bytes of r, the last one first.
// A line longer than maxDecisionBytes is none of ours: it comes as nothing.
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
			if long || len(line) > maxDecisionBytes {
				line = []byte{}
			}
			if end == size && at == len(part)-1 && len(rest) == 0 {
				line = nil // the file's last newline ends a line, it begins none
			}
			if line != nil && !yield(line, nil) {
				return false, nil
			}
			part, rest, long = part[:at], rest[:0], false
		}
		if long = long || len(part)+len(rest) > maxDecisionBytes; long {
			rest = rest[:0]
		} else {
			rest = append(bytes.Clone(part), rest...)
		}
		end = from
	}
	if size > 0 && (len(rest) > 0 || long) {
		if long {
			rest = []byte{}
		}
		return yield(rest, nil), nil
	}
	return true, nil
}
