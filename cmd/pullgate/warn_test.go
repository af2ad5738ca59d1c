package main

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// lines is a log that can be read while it is written.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// say reports whether text stands in some line.
func (l *lines) say(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

// warnings are the messages of the warnings so far, the policy's name behind
// those that have one.
func (l *lines) warnings() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []string
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, "level=WARN") {
			text := between(line, `msg="`, `"`)
			if _, rest, named := strings.Cut(line, "policy="); named {
				name, _, _ := strings.Cut(rest, " ")
				text += " " + name
			}
			found = append(found, text)
		}
	}
	return found
}

const gateWarns = "the whole gate is in warn mode: nothing but `static: deny` is refused"

// A gate that serves says so in its own log.
func TestServeReminds(t *testing.T) {
	r := startRig(t, func(r *rig) string {
		writeIn(t, r.dir, "key.pub", r.key)
		return r.base() + "mode: warn\n" + signedByKey
	})
	for range 500 {
		if slices.Contains(r.log.warnings(), gateWarns) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("nothing says that the gate is in warn mode, only %q", r.log.warnings())
}
