package decisions

import (
	"slices"
	"strings"
	"testing"
)

// TestBackward: reading backwards finds the lines that reading forwards finds,
// wherever the blocks end.
func TestBackward(t *testing.T) {
	t.Parallel()
	for _, longest := range []int{3, 1000, maxLineBytes - 1} {
		var lines []string
		size := 0
		for n := 0; size < 3*backwardBlock+17; n++ {
			line := strings.Repeat(string(rune('a'+n%26)), 1+(n*7919)%longest)
			lines = append(lines, line)
			size += len(line) + 1
		}
		for _, end := range []string{"\n", ""} {
			text := strings.Join(lines, "\n") + end
			var got []string
			more, err := backward(strings.NewReader(text), int64(len(text)), func(line []byte, _ error) bool {
				got = append(got, string(line))
				return true
			})
			slices.Reverse(got)
			if err != nil || !more || !slices.Equal(got, lines) {
				t.Errorf("longest %d, end %q: %d lines of %d, %v", longest, end, len(got), len(lines), err)
			}
		}
	}
}

// TestEndlessLine: a line without end costs no memory, and hides none of its
// neighbours.
func TestEndlessLine(t *testing.T) {
	t.Parallel()
	text := "first\n" + strings.Repeat("x", 5*backwardBlock) + "\nlast\n"
	var got []string
	if _, err := backward(strings.NewReader(text), int64(len(text)), func(line []byte, _ error) bool {
		got = append(got, string(line))
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, []string{"last", "", "first"}) {
		t.Errorf("%.100q", got)
	}
}
