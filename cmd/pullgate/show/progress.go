package show

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/term"
)

// progressEvery is the time between two updates of a progress line.
const progressEvery = 100 * time.Millisecond

// Progress returns a function that keeps a line such as "3 of 8 images judged"
// up to date on a terminal, and removes it at the end. Where w is no terminal the
// function does nothing. It may be called concurrently.
func Progress(w io.Writer, what string) func(done, of int) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return func(int, int) {}
	}

	var last atomic.Int64 // in milliseconds
	return func(done, of int) {
		now := time.Now().UnixMilli()
		before := last.Load()

		switch {
		case done == of:
			fmt.Fprint(f, "\r\x1b[K")
		case now-before > progressEvery.Milliseconds() && last.CompareAndSwap(before, now):
			fmt.Fprintf(f, "\r%d of %d %s", done, of, what)
		}
	}
}
