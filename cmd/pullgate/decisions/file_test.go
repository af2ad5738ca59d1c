package decisions

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// encoded returns n entries as a sink gets them.
func encoded(n int) []entry {
	var list []entry
	for i := range n {
		r := someRecord(i)
		list = append(list, entry{r, appendLine(nil, &r)})
	}
	return list
}

// TestRotation: the files are bounded and private, and read newest first.
func TestRotation(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "new", "decisions.jsonl")
	batch := encoded(100)
	one := int64(len(batch[0].line))
	f := &file{path: path, maxBytes: 30*one + 5, keep: 2}
	if lost, err := f.write(batch); lost != 0 || err != nil {
		t.Fatal(lost, err)
	}

	var all []string
	for line, err := range f.newest() {
		r, ok := parseLine(line)
		if err != nil || !ok {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, r.ID)
	}
	// 100 lines by 30: 10 in the file, 30 in each of the two older ones.
	if len(all) != 70 || all[0] != someRecord(99).ID || all[69] != someRecord(30).ID {
		t.Errorf("%d lines, from %s to %s", len(all), all[0], all[len(all)-1])
	}

	for n, size := range []int64{10 * one, 30 * one, 30 * one} {
		info, err := os.Stat(rotated(path, n))
		if err != nil || info.Size() != size || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", rotated(path, n), info, err)
		}
	}
	if _, err := os.Stat(rotated(path, 3)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a third older file: %v", err)
	}
}

// TestMovedFile: the file is made anew once it was moved, and a torn line is ended
// by the next process.
func TestMovedFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "decisions.jsonl")
	batch := encoded(3)
	f := &file{path: path, maxBytes: 1 << 20, keep: 2}
	if lost, err := f.write(batch); lost != 0 || err != nil {
		t.Fatal(lost, err)
	}

	if err := os.Rename(path, path+".taken"); err != nil { // as logrotate does
		t.Fatal(err)
	}
	if lost, err := f.write(batch[:1]); lost != 0 || err != nil {
		t.Fatal(lost, err)
	}
	if got := linesOf(t, path); len(got) != 1 {
		t.Errorf("after the file was moved there are %d lines", len(got))
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}

	torn, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := torn.WriteString(`{"id":"half a li`); err != nil {
		t.Fatal(err)
	}
	if err := torn.Close(); err != nil {
		t.Fatal(err)
	}

	f = &file{path: path, maxBytes: 1 << 20, keep: 2} // a new process
	if lost, err := f.write(batch[1:2]); lost != 0 || err != nil {
		t.Fatal(lost, err)
	}
	found, _, err := (Query{Limit: 2}).find(t.Context(), newestLines([]string{path}))
	if err != nil || len(found) != 2 || found[0].ID != someRecord(1).ID || found[1].ID != someRecord(0).ID {
		t.Errorf("found %v, %v", found, err)
	}
}

func linesOf(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// TestUnwritableFile: a file that cannot be written loses what it was given, says
// so, and takes what comes later; test/e2e fills a real disk.
func TestUnwritableFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "decisions.jsonl")
	batch := encoded(3)
	f := &file{path: path, maxBytes: 1 << 20, keep: 1}
	if lost, err := f.write(batch[:1]); lost != 0 || err != nil {
		t.Fatal(lost, err)
	}

	t.Run("for a while", func(t *testing.T) {
		readOnly, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.f.Close()
		f.f = readOnly
		if lost, err := f.write(batch[1:2]); lost != 1 || err == nil {
			t.Errorf("lost %d, %v", lost, err)
		}
		if err := f.close(); err != nil {
			t.Fatal(err)
		}
		if lost, err := f.write(batch[2:]); lost != 0 || err != nil {
			t.Fatal(lost, err)
		}
		if got := linesOf(t, path); len(got) != 2 {
			t.Errorf("%d lines", len(got))
		}
	})
	t.Run("no regular file", func(t *testing.T) {
		device := &file{path: "/dev/null", maxBytes: 1 << 20, keep: 1}
		if lost, err := device.write(batch); lost != 3 || err == nil || !strings.Contains(err.Error(), "stdout") {
			t.Errorf("lost %d, %v", lost, err)
		}
	})
	t.Run("impossible folder", func(t *testing.T) {
		below := &file{path: filepath.Join(path, "decisions.jsonl"), maxBytes: 1 << 20, keep: 1}
		if lost, err := below.write(batch); lost != 3 || err == nil {
			t.Errorf("lost %d, %v", lost, err)
		}
	})
}
