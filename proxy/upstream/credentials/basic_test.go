package credentials

import (
	"os"
	"path/filepath"
	"testing"
)

func TestPasswordFile(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want string }{
		{"plain", "plain", "plain"},
		{"line end", "line end\n", "line end"},
		{"DOS line end", "dos line end\r\n", "dos line end"},
		{"several line ends", "several\n\n\n", "several"},
		{"spaces, which are part of it", " spaces are part of it ", " spaces are part of it "},
		{"two lines", "two\nlines", "two\nlines"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b, err := NewBasic(testUser, file(t, tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if got := mustGet(t, b); got.Username != testUser || got.Password != tt.want || got.IdentityToken != "" {
				t.Errorf("%q: got %q with %q", tt.text, got.Username, got.Password)
			}
			if !b.Configured() {
				t.Error("not configured")
			}
		})
	}
}

// What is wrong with a password is said at load time, and without quoting it.
func TestBasicRefusals(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing")
	tests := []struct{ name, user, file, text string }{
		{"no user", "", file(t, testPassword), "username"},
		{"no file", testUser, "", "passwordFile"},
		{"missing file", testUser, missing, missing},
		{"empty file", testUser, file(t, "\n"), "empty"},
		{"a directory", testUser, t.TempDir(), "passwordFile"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := NewBasic(tt.user, tt.file)
			wantError(t, err, tt.text)
		})
	}
}

// A rotated password is used at once; a file that has gone is an error.
func TestPasswordRotation(t *testing.T) {
	t.Parallel()
	name := file(t, "first-"+mark)
	b, err := NewBasic(testUser, name)
	if err != nil {
		t.Fatal(err)
	}

	overwrite(t, name, "second-"+mark)
	if got := mustGet(t, b); got.Password != "second-"+mark {
		t.Errorf("got %q", got.Password)
	}

	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	got, err := b.Get(t.Context(), repo)
	wantError(t, err, name)
	if !got.Empty() || !b.Configured() {
		t.Error("credentials beside the error, or none configured")
	}
}
