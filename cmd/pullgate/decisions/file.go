package decisions

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// file appends lines to a file that is rotated when it is full, so that maxBytes
// for it and for each of the older ones bounds the disk they take. A file that is
// moved or removed meanwhile is made anew.
type file struct {
	path     string
	maxBytes int64
	keep     int // older files beside it

	f    *os.File // nil: to be opened
	size int64
	text bytes.Buffer // made once and used again
}

// write loses what it cannot write, but never a part of a line: the next record
// always begins a line of its own.
func (d *file) write(batch []entry) (lost int, err error) {
	text := &d.text
	if text.Reset(); text.Cap() > maxBufferBytes {
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
	for _, e := range batch {
		if d.size+int64(text.Len()+len(e.line)) > d.maxBytes {
			flush()
			if rerr := d.rotate(); rerr != nil {
				lost, err = lost+1, errors.Join(err, rerr)
				continue
			}
		}
		text.Write(e.line)
		waiting++
	}
	flush()
	return lost, err
}

func (d *file) append(text []byte) error {
	n, err := d.f.Write(text)
	if err == nil {
		d.size += int64(n)
		return nil
	}

	// Half a line is taken back. Where even that fails, open mends it.
	err = fmt.Errorf("write decisions: %w", err)
	if n > 0 && d.f.Truncate(d.size) != nil {
		return errors.Join(err, d.close())
	}
	return err
}

// open makes sure that d.f is the file at d.path, and d.size its size.
func (d *file) open() error {
	if d.f != nil {
		ours, err1 := d.f.Stat()
		there, err2 := os.Stat(d.path)
		if err1 == nil && err2 == nil && os.SameFile(ours, there) {
			d.size = ours.Size()
			return nil
		}
		if err := d.close(); err != nil {
			return fmt.Errorf("close decisions: %w", err)
		}
	}

	if err := os.MkdirAll(filepath.Dir(d.path), 0o700); err != nil {
		return fmt.Errorf("make the folder for decisions: %w", err)
	}
	// Opening a pipe would wait for a reader.
	if info, err := os.Stat(d.path); err == nil && !info.Mode().IsRegular() {
		const message = "decisions.file %s is no regular file; for standard output write decisions: {to: stdout}"
		return fmt.Errorf(message, d.path)
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
func (d *file) mend() error {
	last := []byte{'\n'}
	if d.size > 0 {
		if _, err := d.f.ReadAt(last, d.size-1); err != nil {
			return errors.Join(fmt.Errorf("read decisions: %w", err), d.close())
		}
	}
	if last[0] == '\n' {
		return nil
	}

	if err := d.append([]byte{'\n'}); err != nil {
		return errors.Join(err, d.close())
	}
	return nil
}

// rotate moves every file on by one, over the oldest.
func (d *file) rotate() error {
	if err := d.close(); err != nil {
		return fmt.Errorf("rotate decisions: %w", err)
	}

	for n := d.keep; n > 0; n-- {
		err := os.Rename(rotated(d.path, n-1), rotated(d.path, n))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("rotate decisions: %w", err)
		}
	}
	return d.open()
}

// rotated returns the name of the nth older file: decisions.1.jsonl.
func rotated(path string, n int) string {
	if n == 0 {
		return path
	}
	ext := filepath.Ext(path)
	return strings.TrimSuffix(path, ext) + "." + strconv.Itoa(n) + ext
}

func (d *file) newest() iter.Seq2[[]byte, error] {
	return newestLines(Files(d.path, d.keep))
}

func (d *file) close() error {
	f := d.f
	d.f = nil
	if f == nil {
		return nil
	}
	return f.Close()
}

// Files returns path and the keep older files beside it, the newest first. Not all
// of them need to exist.
func Files(path string, keep int) []string {
	files := make([]string, keep+1)
	for n := range files {
		files[n] = rotated(path, n)
	}
	return files
}

// CheckFiles returns an error that names the first of files that is missing.
func CheckFiles(files []string) error {
	for _, f := range files {
		if _, err := os.Stat(f); err != nil {
			return fmt.Errorf("read decisions: %w", err)
		}
	}
	return nil
}
