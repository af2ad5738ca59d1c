package credentials

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// helper puts a credential helper of that name into PATH: a shell script that
// notes each run in the file it returns.
func helper(t *testing.T, name, script string) (runs func() int) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	text := "#!/bin/sh\necho \"$1\" >> '" + log + "'\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(dir, helperPrefix+name), []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))

	return func() int {
		b, err := os.ReadFile(log)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}

		return strings.Count(string(b), "get\n")
	}
}

func TestDockerConfigEntries(t *testing.T) {
	t.Parallel()
	const awkward = "with:colons and ü-" + mark
	entry := func(host string) string {
		return fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, encoded(testUser, awkward))
	}
	whole := Credentials{Username: testUser, Password: awkward}
	tests := []struct {
		name, text string
		registry   Registry
		want       Credentials
	}{
		{"its own", entry("registry.example"), registry, whole},
		{"a port", entry("reg.example:5000"), Registry{Host: "reg.example", Address: "reg.example:5000"}, whole},
		{"a URL", entry("https://registry.example/v1/"), registry, whole},
		{
			"an identity token", `{"auths":{"registry.example":{"identitytoken":"identity-` + mark + `"}}}`, registry,
			Credentials{IdentityToken: "identity-" + mark},
		},
		{"none", `{}`, registry, Credentials{}},
		{"another's", entry("other.example"), registry, Credentials{}},
		{"another port's", entry("registry.example:5000"), registry, Credentials{}},
		{"Docker Hub", entry(dockerHub[0]), Registry{Host: "docker.io", Address: "registry-1.docker.io"}, whole},
		{
			"Docker Hub by its old name",
			entry(dockerHub[0]),
			Registry{Host: "docker.io", Address: "index.docker.io"},
			whole,
		},
		{
			"a mirror of Docker Hub",
			entry(dockerHub[0]),
			Registry{Host: "docker.io", Address: "mirror.example"},
			Credentials{},
		},
		{
			"Docker Hub's address",
			entry(dockerHub[0]),
			Registry{Host: "hub.example", Address: "registry-1.docker.io"},
			Credentials{},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d, err := NewDockerConfig(file(t, tt.text), tt.registry)
			if err != nil {
				t.Fatal(err)
			}
			if got := mustGet(t, d); got != tt.want {
				t.Errorf("got %q, %q, %q", got.Username, got.Password, got.IdentityToken)
			}
			if d.Configured() == tt.want.Empty() {
				t.Errorf("Configured %v", d.Configured())
			}
		})
	}
}

// What is wrong with the file is said at load time, and without quoting it.
func TestDockerConfigRefusals(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing")
	tests := []struct{ name, file, text string }{
		{"missing", missing, missing},
		{"not JSON", file(t, `auths: `+testPassword), "not valid"},
		{"cut short", file(t, `{"auths":{"r":{"auth":"`+mark), "not valid"},
		{"auth is not base64", file(t, `{"auths":{"registry.example":{"auth":"%`+mark+`%"}}}`), "not valid"},
		{
			"auth has no colon",
			file(t, `{"auths":{"registry.example":{"auth":"`+base64.StdEncoding.EncodeToString([]byte(mark))+`"}}}`),
			"not valid",
		},
		{
			"helper is not installed",
			file(t, `{"credHelpers":{"registry.example":"pullgate-no-such-helper"}}`),
			"helper",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := NewDockerConfig(tt.file, registry)
			wantError(t, err, tt.text)
		})
	}
}

func TestHelpers(t *testing.T) {
	answer := func(user, secret string) string {
		return fmt.Sprintf(`cat >/dev/null; echo '{"ServerURL":"x","Username":"%s","Secret":"%s"}'`, user, secret)
	}
	tests := []struct {
		name, script string
		config       string
		want         Credentials
		refused      string
	}{
		{
			name:   "password",
			script: answer(testUser, testPassword),
			want:   Credentials{Username: testUser, Password: testPassword},
		},
		{
			name:   "identity token",
			script: answer(tokenUser, "identity-"+mark),
			want:   Credentials{IdentityToken: "identity-" + mark},
		},
		{
			name:   "asked by the registry's name",
			script: `read -r server; echo "{\"Username\":\"$server\",\"Secret\":\"x\"}"`,
			want:   Credentials{Username: "registry.example", Password: "x"},
		},
		{
			name:   "for every registry",
			script: answer(testUser, testPassword),
			config: `{"credsStore":"pullgate-test"}`,
			want:   Credentials{Username: testUser, Password: testPassword},
		},
		{
			name:   "instead of the file's entry",
			script: answer(testUser, testPassword),
			config: `{"auths":{"registry.example":{"auth":"` + encoded("a", "b") + `"}},"credsStore":"pullgate-test"}`,
			want:   Credentials{Username: testUser, Password: testPassword},
		},
		{
			name:   "nothing found, which is no error",
			script: `echo "credentials not found in native keychain"; exit 1`,
			config: `{"auths":{"registry.example":{"auth":"` + encoded("a", "b") + `"}},"credsStore":"pullgate-test"}`,
		},
		{
			name:    "failure",
			script:  `echo "denied for ` + mark + `"; exit 1`,
			refused: "its credential helper failed for registry.example",
		},
		{
			name:    "no JSON",
			script:  `echo ` + mark,
			refused: "its credential helper failed for registry.example",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			runs := helper(t, "pullgate-test", tt.script)
			if tt.config == "" {
				tt.config = `{"credHelpers":{"registry.example":"pullgate-test"}}`
			}
			d, err := NewDockerConfig(file(t, tt.config), registry)
			if n := runs(); n != 1 {
				t.Errorf("%d runs; want 1", n)
			}
			if tt.refused != "" {
				wantError(t, err, tt.refused)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := mustGet(t, d); got != tt.want {
				t.Errorf("got %q, %q, %q", got.Username, got.Password, got.IdentityToken)
			}
			if d.Configured() == tt.want.Empty() {
				t.Errorf("Configured %v", d.Configured())
			}
		})
	}

	t.Run("of another registry", func(t *testing.T) {
		runs := helper(t, "pullgate-test", "exit 1")
		config := `{"credHelpers":{"other.example":"pullgate-test"},"auths":{"registry.example":{"auth":"` +
			encoded("a", "b") + `"}}}`
		d, err := NewDockerConfig(file(t, config), registry)
		if err != nil {
			t.Fatal(err)
		}
		if got := mustGet(t, d); got.Username != "a" || runs() != 0 {
			t.Errorf("got %q after %d runs", got.Username, runs())
		}
	})
}

// DOCKER_AUTH_CONFIG comes before the file and before its helpers.
func TestEnvironmentEntry(t *testing.T) {
	t.Setenv("DOCKER_AUTH_CONFIG", `{"auths":{"registry.example":{"auth":"`+encoded("env", testPassword)+`"}}}`)
	runs := helper(t, "pullgate-test", "exit 1")
	for name, config := range map[string]string{
		"file":   `{"auths":{"registry.example":{"auth":"` + encoded("a", "b") + `"}}}`,
		"helper": `{"credsStore":"pullgate-test"}`,
	} {
		t.Run(name, func(t *testing.T) {
			d, err := NewDockerConfig(file(t, config), registry)
			if err != nil {
				t.Fatal(err)
			}
			if got := mustGet(t, d); got.Username != "env" || runs() != 0 {
				t.Errorf("got %q after %d runs", got.Username, runs())
			}
		})
	}

	t.Run("of another registry", func(t *testing.T) {
		d, err := NewDockerConfig(file(t, `{"auths":{"o.example":{"auth":"`+encoded("a", "b")+`"}}}`),
			Registry{Host: "o.example", Address: "o.example"})
		if err != nil {
			t.Fatal(err)
		}
		if got := mustGet(t, d); got.Username != "a" {
			t.Errorf("got %q", got.Username)
		}
	})
}

// Configured is asked for every error, so it must not run the helper.
func TestConfiguredWithoutHelper(t *testing.T) {
	runs := helper(t, "pullgate-test", `echo '{"Username":"u","Secret":"s"}'`)
	d, err := NewDockerConfig(file(t, `{"credsStore":"pullgate-test"}`), registry)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if !d.Configured() {
			t.Fatal("not configured")
		}
	}
	if n := runs(); n != 1 {
		t.Errorf("%d runs of the helper; want one, at load time", n)
	}
}

// Configured follows the file: it is what the last Get found.
func TestConfiguredAfterRotation(t *testing.T) {
	t.Parallel()
	full := `{"auths":{"registry.example":{"auth":"` + encoded("a", "b") + `"}}}`
	name := file(t, `{}`)
	d, err := NewDockerConfig(name, registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name, text string
		want       bool
	}{{"added", full, true}, {"removed", `{}`, false}, {"unreadable", `{`, true}, {"repaired", `{}`, false}} {
		t.Run(step.name, func(t *testing.T) {
			overwrite(t, name, step.text)
			_, err := d.Get(t.Context(), repo)
			if got := d.Configured(); got != step.want || (err != nil) != (step.text == `{`) {
				t.Errorf("%s: Configured %v, %v", step.name, got, err)
			}
		})
	}
}

// The end of a context stops the helper, and says nothing about the file. The
// helper's child holds the output open: it is not waited for.
func TestHelperStopped(t *testing.T) {
	runs := helper(t, "pullgate-test", `cat >/dev/null
if [ -e "$0.slow" ]; then : > "$0.started"; sleep 20 2>/dev/null & wait; fi
echo "credentials not found in native keychain"; exit 1`)
	d, err := NewDockerConfig(file(t, `{"credsStore":"pullgate-test"}`), registry)
	if err != nil {
		t.Fatal(err)
	}

	program := filepath.Join(strings.Split(os.Getenv("PATH"), string(os.PathListSeparator))[0],
		helperPrefix+"pullgate-test")
	overwrite(t, program+".slow", "")
	d.helpers.forget()
	reason := errors.New("the client left")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	stopped := make(chan error, 1)
	go func() {
		_, err := d.Get(ctx, repo)
		stopped <- err
	}()
	for _, err := os.Stat(program + ".started"); err != nil; _, err = os.Stat(program + ".started") {
		time.Sleep(time.Millisecond)
	}
	cancel(reason)

	select {
	case err := <-stopped:
		wantError(t, err, "was stopped")
		if !errors.Is(err, reason) {
			t.Errorf("%v; want the context's cause in it", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the helper outlives the context")
	}
	if n := runs(); n != 2 {
		t.Errorf("%d runs; want 2", n)
	}
	if d.Configured() {
		t.Error("a stopped helper counts as credentials")
	}
}
