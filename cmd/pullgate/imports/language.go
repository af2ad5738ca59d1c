package imports

import (
	"encoding/binary"
	"regexp/syntax"
	"slices"
	"unicode"
)

const (
	maxComparison  = 1 << 20 // instructions that one comparison of two expressions may take
	maxComparisons = 1 << 27 // and all of one import; what is left uncompared counts as unknown
)

// comparing answers questions about the texts that regular expressions match.
// The zero value is ready for use.
type comparing struct {
	spent int // instructions so far
	known map[comparison]bool
}

// comparison is a question: may some text be matched by both, or, for outside,
// by the one and not by the other?
type comparison struct {
	one, other string
	outside    bool
}

// inside reports whether other matches every text that one does. It may deny
// this wrongly, of an expression that is too large or looks at what stands
// beside a place, and never affirms it wrongly.
func (c *comparing) inside(one, other string) bool {
	return one == other || !c.mayBe(comparison{one, other, true})
}

// meet reports whether some text may be matched by both. It may say so wrongly,
// never the opposite.
func (c *comparing) meet(one, other string) bool {
	return one == other || c.mayBe(comparison{one, other, false})
}

func (c *comparing) mayBe(question comparison) bool {
	if answer, ok := c.known[question]; ok {
		return answer
	}

	w := walk{question: question, left: min(maxComparison, maxComparisons-c.spent)}
	before := w.left
	answer := w.find()
	c.spent += before - w.left

	if c.known == nil {
		c.known = map[comparison]bool{}
	}
	c.known[question] = answer
	return answer
}

// walk reads all texts with two expressions at once. Texts that leave both in
// the same states are as good as one.
type walk struct {
	question comparison
	left     int // instructions that may still be looked at
	seen     map[string]bool
	todo     []states
}

// states are where both expressions may be after a text, as positions of their
// programs.
type states struct {
	one, other []uint32
	begun      bool // false: nothing was read yet
}

// find reports whether there is a text of the kind that the question asks for,
// or that this cannot be told.
func (w *walk) find() bool {
	one, other := program(w.question.one), program(w.question.other)
	if one == nil || other == nil {
		return true
	}

	w.seen = map[string]bool{}
	w.todo = []states{{one: []uint32{uint32(one.Start)}, other: []uint32{uint32(other.Start)}}}
	letters := letters(one, other)
	for len(w.todo) > 0 {
		at := w.todo[len(w.todo)-1]
		w.todo = w.todo[:len(w.todo)-1]

		here := syntax.EmptyOp(0)
		if !at.begun {
			here = syntax.EmptyBeginText
		}
		if at.begun { // a pattern never matches the empty text
			_, a := w.follow(one, at.one, syntax.EmptyEndText)
			_, b := w.follow(other, at.other, syntax.EmptyEndText)
			if a && b != w.question.outside {
				return true
			}
		}

		a, _ := w.follow(one, at.one, here)
		b, _ := w.follow(other, at.other, here)
		for _, letter := range letters {
			w.add(states{one: w.step(one, a, letter), other: w.step(other, b, letter), begun: true})
		}
		if w.left <= 0 {
			return true
		}
	}
	return false
}

// add keeps states to go on from, unless they are known or lead nowhere.
func (w *walk) add(at states) {
	if len(at.one) == 0 || len(at.other) == 0 && !w.question.outside {
		return
	}

	key := binary.AppendUvarint(nil, uint64(len(at.one)))
	for _, position := range slices.Concat(at.one, at.other) {
		key = binary.AppendUvarint(key, uint64(position))
	}
	if !w.seen[string(key)] {
		w.seen[string(key)] = true
		w.todo = append(w.todo, at)
	}
}

// follow goes on from positions without reading, at a place where the
// assertions hold. It returns the positions that read, and whether a match ends
// here.
func (w *walk) follow(p *syntax.Prog, from []uint32, hold syntax.EmptyOp) (reading []uint32, matched bool) {
	visited := make([]bool, len(p.Inst))
	todo := slices.Clone(from)
	for len(todo) > 0 {
		position := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if visited[position] {
			continue
		}
		visited[position] = true
		w.left--

		switch inst := &p.Inst[position]; inst.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			todo = append(todo, inst.Out, inst.Arg)
		case syntax.InstCapture, syntax.InstNop:
			todo = append(todo, inst.Out)
		case syntax.InstEmptyWidth:
			if syntax.EmptyOp(inst.Arg)&^hold == 0 {
				todo = append(todo, inst.Out)
			}
		case syntax.InstMatch:
			matched = true
		case syntax.InstFail:
		default:
			reading = append(reading, position)
		}
	}
	return reading, matched
}

// step reads a letter.
func (w *walk) step(p *syntax.Prog, reading []uint32, letter rune) []uint32 {
	var next []uint32
	for _, position := range reading {
		w.left--
		if inst := &p.Inst[position]; inst.MatchRune(letter) {
			next = append(next, inst.Out)
		}
	}
	slices.Sort(next)
	return slices.Compact(next)
}

// program compiles an expression as policies do, anchored at both ends; nil
// when it looks at what stands beside a place, or is no expression.
func program(expression string) *syntax.Prog {
	tree, err := syntax.Parse(`\A(?:`+expression+`)\z`, syntax.Perl)
	if err != nil {
		return nil
	}
	p, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return nil
	}

	for i := range p.Inst {
		const ends = syntax.EmptyBeginText | syntax.EmptyEndText
		if p.Inst[i].Op == syntax.InstEmptyWidth && syntax.EmptyOp(p.Inst[i].Arg)&^ends != 0 {
			return nil
		}
	}
	return p
}

// letters are one rune for each set of runes that no instruction tells apart.
func letters(programs ...*syntax.Prog) []rune {
	first := []rune{0}
	differs := func(low, high rune) { first = append(first, low, high+1) }
	for _, p := range programs {
		for i := range p.Inst {
			inst := &p.Inst[i]
			switch {
			case inst.Op == syntax.InstRuneAnyNotNL:
				differs('\n', '\n')
			case inst.Op != syntax.InstRune && inst.Op != syntax.InstRune1:
			case len(inst.Rune) == 1:
				differs(inst.Rune[0], inst.Rune[0])
				for r := unicode.SimpleFold(inst.Rune[0]); r != inst.Rune[0]; r = unicode.SimpleFold(r) {
					differs(r, r)
				}
			default:
				for j := 0; j+1 < len(inst.Rune); j += 2 {
					differs(inst.Rune[j], inst.Rune[j+1])
				}
			}
		}
	}

	slices.Sort(first)
	first = slices.Compact(first)
	return slices.DeleteFunc(first, func(r rune) bool { return r > unicode.MaxRune })
}
