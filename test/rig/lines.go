package rig

import (
	"strings"
	"sync"
)

// Lines is a log that can be read while it is written.
type Lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *Lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// Say reports whether the log says text.
func (l *Lines) Say(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

// Text is the whole log so far.
func (l *Lines) Text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Warnings are the messages of the warnings so far, each followed by the name of
// the policy that it is about.
func (l *Lines) Warnings() []string {
	l.mu.Lock()
	defer l.mu.Unlock()

	var found []string
	for line := range strings.Lines(l.text.String()) {
		if !strings.Contains(line, "level=WARN") {
			continue
		}
		text := Between(line, `msg="`, `"`)
		if _, rest, named := strings.Cut(line, "policy="); named {
			name, _, _ := strings.Cut(rest, " ")
			text += " " + name
		}
		found = append(found, text)
	}
	return found
}
