package verify

import (
	"fmt"
	"testing"
)

// The share of a host that is not asked any more is forgotten: clients may make
// up hosts that a wildcard stands for.
func TestSharesEnd(t *testing.T) {
	t.Parallel()
	var s shares
	first, forgetFirst := s.share("a.example", 2)
	second, forgetSecond := s.share("a.example", 2)
	if first != second || cap(first) != 2 {
		t.Error("a host has two shares")
	}
	forgetFirst()
	if third, forget := s.share("a.example", 2); third != first {
		t.Error("a share that is in use is forgotten")
	} else {
		forget()
	}
	forgetSecond()

	for i := range 10_000 {
		_, forget := s.share(fmt.Sprintf("x%d.example", i), 2)
		forget()
	}
	if len(s.byHost) > 0 {
		t.Errorf("%d shares are left", len(s.byHost))
	}
}
