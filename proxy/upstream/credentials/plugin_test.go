package credentials

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pullgate/pullgate/policy"
)

// provider is a credential provider: a program for the shell, which counts its
// runs, and what it was asked last.
type provider struct {
	command string
	dir     string
}

func newProvider(t *testing.T, text string) *provider {
	t.Helper()
	dir := t.TempDir()
	p := &provider{command: filepath.Join(dir, "provider"), dir: dir}
	script(t, p.command, "cd '"+dir+"' && cat > asked && echo run >> runs\n"+text)
	return p
}

// answers is a provider that always answers the same.
func answers(t *testing.T, answer string) *provider {
	t.Helper()
	p := newProvider(t, "cat answer")
	overwrite(t, filepath.Join(p.dir, "answer"), answer)
	return p
}

func (p *provider) runs(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, "runs"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Count(string(text), "run")
}

func (p *provider) asked(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, "asked"))
	if err != nil {
		t.Fatal(err)
	}
	var asked map[string]string
	if err := json.Unmarshal(text, &asked); err != nil {
		t.Fatal(err)
	}
	return asked
}

// response is an answer of a provider; duration is JSON.
func response(keyType, duration string, patterns ...string) string {
	auth := map[string]pluginKey{}
	for _, p := range patterns {
		auth[p] = pluginKey{Username: "for:" + p, Password: testPassword}
	}
	for p, key := range auth {
		key.Username = strings.NewReplacer(":", "_", "/", "_").Replace(key.Username)
		auth[p] = key
	}
	text, err := json.Marshal(auth)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf(`{"apiVersion":%q,"kind":%q,"cacheKeyType":%q,"cacheDuration":%s,"auth":%s}`,
		pluginVersion, pluginResponse, keyType, duration, text)
}

func mustPlugin(t *testing.T, p *provider, c PluginConfig) *Plugin {
	t.Helper()
	c.Command = p.command
	made, err := NewPlugin(registry, c)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func other(path string) policy.Repository {
	return policy.Repository{Host: repo.Host, Path: path}
}

// The question is the kubelet's; the program gets its arguments and as little of
// the environment as it needs.
func TestPluginQuestion(t *testing.T) {
	t.Setenv("PULLGATE_TEST_SECRET", mark)
	p := newProvider(t, `env > environment; printf '%s|' "$@" > arguments; cat answer`)
	overwrite(t, filepath.Join(p.dir, "answer"), response("Registry", `"1h"`, "registry.example"))
	made := mustPlugin(t, p, PluginConfig{
		Args: []string{"--get", "a b; rm -rf $HOME"},
		Env:  map[string]string{"AWS_PROFILE": "pull", "lower": "x y"},
	})
	if got := mustGet(t, made); got.Username != "for_registry.example" || got.Password != testPassword {
		t.Errorf("user %q", got.Username)
	}

	want := map[string]string{"apiVersion": pluginVersion, "kind": pluginRequest, "image": "registry.example/acme/app"}
	if got := p.asked(t); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("it was asked %v", got)
	}
	arguments, _ := os.ReadFile(filepath.Join(p.dir, "arguments"))
	if string(arguments) != "--get|a b; rm -rf $HOME|" {
		t.Errorf("its arguments are %q", arguments)
	}
	environment, _ := os.ReadFile(filepath.Join(p.dir, "environment"))
	text := string(environment)
	if strings.Contains(text, mark) || !strings.Contains(text, "AWS_PROFILE=pull\n") ||
		!strings.Contains(text, "lower=x y\n") || !strings.Contains(text, "HOME=") {
		t.Errorf("its environment is %s", strings.ReplaceAll(text, mark, "…"))
	}
}

func TestPluginImages(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]Registry{
		"registry.example":      {Host: "registry.example", Address: "Registry.example", ImpliedPort: "443"},
		"registry.example:8443": {Host: "registry.example", Address: "registry.example:8443", ImpliedPort: "443"},
		"harbor.example/hub":    {Host: "docker.io", Address: "harbor.example:443", Path: "hub", ImpliedPort: "443"},
		"docker.io":             {Host: "docker.io", Address: "registry-1.docker.io", ImpliedPort: "443"},
	} {
		if got := pluginImage(r); got != want {
			t.Errorf("%q; want %q", got, want)
		}
	}
}

// A pattern is compared as the kubelet does, label by label.
func TestPluginPatterns(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		pattern, image string
		want           bool
	}{
		{"registry.example", "registry.example/acme/app", true},
		{"https://registry.example", "registry.example/acme/app", true},
		{"REGISTRY.example", "registry.example/acme/app", true},
		{"*.example", "registry.example/acme/app", true},
		{"*.dkr.ecr.*.amazonaws.com", ecrRegistry + "/app", true},
		{"*.azurecr.*", "acme.azurecr.io/app", true},
		{"*", "registry.example/acme/app", false},
		{"*.*.example", "registry.example/acme/app", false},
		{"registry.example.evil", "registry.example/acme/app", false},
		{"registry.example:5000", "registry.example/acme/app", false},
		{"registry.example:5000", "registry.example:5000/acme/app", true},
		{"registry.example", "registry.example:5000/acme/app", false},
		{"registry.example/acme", "registry.example/acme/app", true},
		{"registry.example/acme/app/", "registry.example/acme/app", true},
		{"registry.example/ac", "registry.example/acme/app", false},
		{"registry.example/*", "registry.example/acme/app", false},
		{"[.example", "registry.example/acme/app", false},
		{"", "registry.example/acme/app", false},
	} {
		if got := matchesImage(tt.pattern, tt.image); got != tt.want {
			t.Errorf("%q for %s: %v", tt.pattern, tt.image, got)
		}
	}
}

// Of several patterns the longest counts; those of other registries never do.
func TestPluginChoice(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		patterns []string
		want     string
	}{
		{[]string{"*.example", "registry.example"}, "for_registry.example"},
		{[]string{"registry.example", "registry.example/acme", "registry.example/other"}, "for_registry.example_acme"},
		{[]string{"other.example", "evil.example/registry.example"}, ""},
		{nil, ""},
	} {
		t.Run(strings.Join(tt.patterns, " "), func(t *testing.T) {
			t.Parallel()
			made := mustPlugin(t, answers(t, response("Registry", "null", tt.patterns...)), PluginConfig{})
			if !made.Configured() {
				t.Error("it counts as none before it was asked")
			}
			if got := mustGet(t, made); got.Username != tt.want || made.Configured() != (tt.want != "") {
				t.Errorf("%q, configured %v", got.Username, made.Configured())
			}
		})
	}
}

// An answer is used as long as it says, and every request of a pull shares it.
func TestPluginCache(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		duration string
		life     time.Duration
	}{
		{`"6h0m0s"`, 6 * time.Hour},
		{`"0s"`, pluginLeast},
		{`"0"`, pluginLeast},
		{"null", pluginLife},
		{`"1000h"`, pluginMost},
	} {
		t.Run(tt.duration, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			p := answers(t, response("Registry", tt.duration, "registry.example"))
			made := mustPlugin(t, p, PluginConfig{Now: c.now})
			for _, path := range []string{"a", "b", "a"} {
				if _, err := made.Get(t.Context(), other(path)); err != nil {
					t.Fatal(err)
				}
			}
			if n := p.runs(t); n != 1 {
				t.Errorf("%d runs; want 1", n)
			}
			c.move(tt.life)
			mustGet(t, made)
			if n := p.runs(t); n != 2 {
				t.Errorf("%d runs after %v; want 2", n, tt.life)
			}
		})
	}
}

// Where the plugin says that each image has credentials of its own, none is shown
// for another image, not even to those who ask at once.
func TestPluginPerImage(t *testing.T) {
	t.Parallel()
	p := newProvider(t, "")
	script(t, p.command, `cd '`+p.dir+`' && echo run >> runs
image=$(sed 's/.*"image":"\([^"]*\)".*/\1/')
sed "s|IMAGE|$image|" answer`)
	overwrite(t, filepath.Join(p.dir, "answer"), fmt.Sprintf(
		`{"apiVersion":%q,"kind":%q,"cacheKeyType":"Image","cacheDuration":"1h",`+
			`"auth":{"registry.example":{"username":"u","password":"IMAGE"}}}`, pluginVersion, pluginResponse))
	made := mustPlugin(t, p, PluginConfig{})

	var all sync.WaitGroup
	for i := range 30 {
		path := fmt.Sprintf("acme/app%d", i%3)
		all.Go(func() {
			got, err := made.Get(t.Context(), other(path))
			if err != nil || got.Password != "registry.example/"+path {
				t.Errorf("%s is shown %q, %v", path, got.Password, err)
			}
		})
	}
	all.Wait()
	if n := p.runs(t); n > 4 {
		t.Errorf("%d runs for 3 images", n)
	}
}

// What is no answer says so, and none of it.
func TestPluginGarbage(t *testing.T) {
	t.Parallel()
	good := response("Registry", `"1h"`, "registry.example")
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "true", "is no CredentialProviderResponse"},
		{"a secret", "echo password " + mark, "is no CredentialProviderResponse"},
		{"a secret to stderr", "echo " + mark + " >&2; exit 3", "it failed: exit status 3"},
		{"fails with an answer", "cat answer; exit 1", "it failed: exit status 1"},
		{"kills itself", "kill -9 $$", "it failed: signal: killed"},
		{"another version", "sed s,credentialprovider.kubelet.k8s.io/v1,x/v1, answer", "of " + pluginVersion},
		{"another kind", "sed s/CredentialProviderResponse/Pod/ answer", "is no CredentialProviderResponse"},
		{"another key type", "sed s/Registry/Node/ answer", "no cacheKeyType"},
		{"no key type", `sed 's/"Registry"/""/' answer`, "no cacheKeyType"},
		{"no duration", "sed s/1h/soon/ answer", "cacheDuration is no duration"},
		{"negative", "sed s/1h/-1h/ answer", "cacheDuration is no duration"},
		{"control characters", `sed 's/pass-/a\\nb/' answer`, "no registry can be shown"},
		{"no password", "sed s/" + testPassword + "// answer", "no registry can be shown"},
		{"a colon in the name", "sed s/for_/for:/ answer", "no registry can be shown"},
		{"two answers", "cat answer answer", "is no CredentialProviderResponse"},
		{"endless", "yes " + mark, "longer than 64 KiB"},
		{"long", "head -c 70000 /dev/zero | tr '\\000' ' '; cat answer", "longer than 64 KiB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newProvider(t, tt.text)
			overwrite(t, filepath.Join(p.dir, "answer"), good)
			made := mustPlugin(t, p, PluginConfig{})
			got, err := made.Get(t.Context(), repo)
			wantError(t, err, tt.want)
			if identityOf(err) != "credential provider "+p.command || !got.Empty() || !made.Configured() {
				t.Errorf("%v, credentials %v", err, !got.Empty())
			}
		})
	}
}

// A plugin that hangs is stopped with what it has started.
func TestPluginHangs(t *testing.T) {
	t.Parallel()
	p := newProvider(t, "sleep 300 & echo $! > child; wait")
	made := mustPlugin(t, p, PluginConfig{Timeout: 500 * time.Millisecond})
	_, err := made.Get(t.Context(), repo)
	wantError(t, err, "did not answer within 500ms, and was stopped")

	text, err := os.ReadFile(filepath.Join(p.dir, "child"))
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if alive(child) {
		t.Error("what it has started outlives it")
	}
}

// However many images are asked about, few plugins run at once.
func TestPluginRuns(t *testing.T) {
	t.Parallel()
	p := newProvider(t, "sleep 300")
	made := mustPlugin(t, p, PluginConfig{Timeout: 30 * time.Second})
	made.perImage = true
	ctx, leave := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() { _, _ = made.fetch(ctx, fmt.Sprintf("registry.example/%d", i)) })
	}
	for p.runs(t) < maxPluginRuns {
		time.Sleep(5 * time.Millisecond)
	}
	time.Sleep(50 * time.Millisecond)
	if n := p.runs(t); n != maxPluginRuns {
		t.Errorf("%d run at once; want %d", n, maxPluginRuns)
	}
	leave()
	all.Wait()
}

// What is wrong with the program is said at load time.
func TestPluginRefusals(t *testing.T) {
	t.Parallel()
	plain := file(t, "text")
	for _, tt := range []struct{ name, command, want string }{
		{"none", "", "absolute path"},
		{"relative", "provider", "absolute path"},
		{"missing", "/nowhere/provider", "/nowhere/provider"},
		{"a directory", t.TempDir(), "is no program"},
		{"not executable", plain, "is no program"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := NewPlugin(registry, PluginConfig{Command: tt.command})
			wantError(t, err, tt.want)
		})
	}
}
