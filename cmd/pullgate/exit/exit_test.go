package exit

import (
	"errors"
	"fmt"
	"testing"
)

func TestCode(t *testing.T) {
	t.Parallel()
	plain := errors.New("x")
	for name, row := range map[string]struct {
		err  error
		want int
	}{
		"none":    {nil, 0},
		"plain":   {plain, CouldNotTell},
		"denied":  {With(Denied, plain), Denied},
		"wrapped": {fmt.Errorf("y: %w", With(Denied, plain)), Denied},
		"joined":  {errors.Join(plain, With(Denied, plain)), Denied},
	} {
		if got := Code(row.err); got != row.want {
			t.Errorf("%s: %d, want %d", name, got, row.want)
		}
	}

	if err := With(Denied, plain); !errors.Is(err, plain) || err.Error() != "x" {
		t.Errorf("the reason is lost: %v", err)
	}
}
