package credentials

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A token that is rotated is used at once; a file that has gone, or holds
// something else, is an error that names it.
func TestTokenFile(t *testing.T) {
	t.Parallel()
	name := file(t, " first-"+mark+"\r\n")
	source, err := NewToken(name)
	if err != nil {
		t.Fatal(err)
	}
	if got := mustGet(t, source); got.Token != "first-"+mark || got.Password+got.IdentityToken != "" {
		t.Error("it is another token")
	}

	overwrite(t, name, "second-"+mark)
	if got := mustGet(t, source); got.Token != "second-"+mark {
		t.Error("the rotated token is not used")
	}

	overwrite(t, name, "two "+mark)
	_, err = source.Get(t.Context(), repo)
	wantError(t, err, "holds no token")
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	got, err := source.Get(t.Context(), repo)
	wantError(t, err, name)
	if identityOf(err) != "the token of "+name || !got.Empty() || !source.Configured() {
		t.Errorf("%v, credentials %v", err, !got.Empty())
	}
}

func TestTokenFileRefusals(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, file, want string }{
		{"missing", filepath.Join(t.TempDir(), "missing"), "missing"},
		{"a directory", t.TempDir(), "read the token's file"},
		{"empty", file(t, " \n"), "is empty"},
		{"two words", file(t, mark+" "+mark), "holds no token"},
		{"two lines", file(t, mark+"\nX: "+mark), "holds no token"},
		{"no ASCII", file(t, mark+"ü"), "holds no token"},
		{"a zero byte", file(t, mark+"\x00"), "holds no token"},
		{"large", file(t, strings.Repeat("x", maxTokenFile+1)), "holds no token"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := NewToken(tt.file)
			wantError(t, err, tt.want)
		})
	}
}
