package credentials

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/policy"
)

// Every secret of these tests holds this word, so that one search finds any.
const mark = "s3cr3t"

const (
	testUser     = "robot"
	testPassword = "pass-" + mark
)

var (
	repo     = policy.Repository{Host: "registry.example", Path: "acme/app"}
	registry = Registry{Host: "registry.example", Address: "registry.example"}
)

func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	overwrite(t, name, text)

	return name
}

func overwrite(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func encoded(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
}

func mustGet(t *testing.T, s Source) Credentials {
	t.Helper()
	got, err := s.Get(t.Context(), repo)
	if err != nil {
		t.Fatal(err)
	}

	return got
}

// wantError checks that err says text, and that neither its text nor a dump of it
// shows a secret.
func wantError(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v; want %q in it", err, text)
	}
	if shown := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(shown, mark) {
		t.Errorf("the error shows a secret: %s", shown)
	}
}

func TestAnonymous(t *testing.T) {
	t.Parallel()
	if got := mustGet(t, Anonymous{}); !got.Empty() || (Anonymous{}).Configured() {
		t.Error("anonymous has credentials")
	}
}

// What prints a struct by accident does not print a password.
func TestSecretsUnprinted(t *testing.T) {
	t.Parallel()
	c := Credentials{Username: "user-" + mark, Password: testPassword, IdentityToken: "identity-" + mark}
	nested := struct {
		Host  string
		Shown Credentials
	}{"registry.example", c}

	var logged strings.Builder
	slog.New(slog.NewTextHandler(&logged, nil)).Info("text", "shown", c)
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("json", "shown", c, "nested", nested)
	asJSON, err := json.Marshal(nested)
	if err != nil {
		t.Fatal(err)
	}

	for name, text := range map[string]string{
		"v":       fmt.Sprintf("%v %v", c, nested),
		"+v":      fmt.Sprintf("%+v %+v", c, nested),
		"#v":      fmt.Sprintf("%#v %#v", c, nested),
		"s and q": fmt.Sprintf("%s %q %s", c, c, nested),
		"x":       fmt.Sprintf("%x", c),
		"pointer": fmt.Sprintf("%v %+v", &c, &c),
		"error":   fmt.Errorf("failed with %v", c).Error(),
		"json":    string(asJSON),
		"slog":    logged.String(),
	} {
		t.Run(name, func(t *testing.T) {
			hex := fmt.Sprintf("%x", mark)
			if text == "" || strings.Contains(text, mark) || strings.Contains(text, hex) {
				t.Error(text)
			}
		})
	}
}
