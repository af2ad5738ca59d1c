package strictyaml

import "fmt"

// Position is a place in a file that a person wrote. The zero value is nowhere:
// it belongs to what the gate has by itself.
type Position struct {
	File string
	Line int // from 1; 0: unknown, or the file as a whole
}

// IsZero reports whether p is nowhere.
func (p Position) IsZero() bool { return p == Position{} }

// String is "file:line", or the file alone when the line is unknown.
func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// Problem is one thing wrong at p.
func (p Position) Problem(format string, args ...any) Problem {
	return Problem{Position: p, Message: fmt.Sprintf(format, args...)}
}

// Problem is one thing wrong with a configuration or a policy.
type Problem struct {
	Position
	Message string
}

// String is "file:line: message".
func (p Problem) String() string { return p.Position.String() + ": " + p.Message }
