package verify

import (
	"fmt"
	"testing"
)

// The decision log's text format prints reasons as it prints any value.
func TestReasonText(t *testing.T) {
	t.Parallel()
	got := fmt.Sprintf("%+v", []Reason{
		{Text: "no signature found"},
		{Authority: "release", Text: "it was made by another key, or altered"},
	})
	if want := "[no signature found release: it was made by another key, or altered]"; got != want {
		t.Errorf("%s; want %s", got, want)
	}
}
