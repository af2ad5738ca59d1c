package credentials

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// forget drops what helpers have answered.
func (h *helpers) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answers = nil
}

// age makes what helpers have answered older.
func (h *helpers) age(by time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range h.answers {
		a.at, a.until = a.at.Add(-by), a.until.Add(-by)
	}
}

// What a helper answered is believed for a minute, unless the file changes or the
// registry refuses it.
func TestHelperRuns(t *testing.T) {
	runs := helper(t, "pullgate-test", `cat >/dev/null; echo '{"Username":"u","Secret":"s"}'`)
	name := file(t, `{"credsStore":"pullgate-test"}`)
	d, err := NewDockerConfig(name, registry)
	if err != nil {
		t.Fatal(err)
	}
	for range 30 {
		mustGet(t, d)
	}
	if n := runs(); n != 1 {
		t.Fatalf("%d runs for 30 questions; want the one at load time", n)
	}

	d.helpers.age(helperLife - time.Second)
	mustGet(t, d)
	if n := runs(); n != 1 {
		t.Errorf("%d runs within a minute", n)
	}
	d.helpers.age(time.Second)
	mustGet(t, d)
	if n := runs(); n != 2 {
		t.Errorf("%d runs after a minute; want 2", n)
	}

	t.Run("refused", func(t *testing.T) {
		d.Refused()
		mustGet(t, d)
		if n := runs(); n != 2 {
			t.Errorf("%d runs at once after a refusal", n)
		}
		d.helpers.age(helperPause)
		for range 5 {
			d.Refused()
			mustGet(t, d)
		}
		if n := runs(); n != 3 {
			t.Errorf("%d runs after a refusal; want 3", n)
		}
	})
	t.Run("changed file", func(t *testing.T) {
		later := time.Now().Add(time.Hour)
		if err := os.Chtimes(name, later, later); err != nil {
			t.Fatal(err)
		}
		mustGet(t, d)
		if n := runs(); n != 4 {
			t.Errorf("%d runs after the file has changed; want 4", n)
		}
	})
}

// A helper that fails is not run for each of those who ask meanwhile.
func TestFailedHelperRuns(t *testing.T) {
	runs := helper(t, "pullgate-test", `cat >/dev/null; [ -e "$0.ok" ] || exit 1; echo '{"Username":"u","Secret":"s"}'`)
	program := filepath.Join(strings.Split(os.Getenv("PATH"), string(os.PathListSeparator))[0],
		helperPrefix+"pullgate-test")
	overwrite(t, program+".ok", "")
	d, err := NewDockerConfig(file(t, `{"credsStore":"pullgate-test"}`), registry)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(program + ".ok"); err != nil {
		t.Fatal(err)
	}

	d.helpers.forget()
	for range 100 {
		if _, err := d.Get(t.Context(), repo); err == nil {
			t.Fatal("no error")
		}
	}
	if n := runs(); n != 2 {
		t.Errorf("%d runs; want 2", n)
	}

	overwrite(t, program+".ok", "")
	d.helpers.age(helperPause)
	if got := mustGet(t, d); got.Username != "u" {
		t.Errorf("%q after the helper has recovered", got.Username)
	}
}

// All who ask at once share one run, which ends when the last of them leaves.
func TestSharedHelperRun(t *testing.T) {
	runs := helper(t, "pullgate-test", `cat >/dev/null
if [ -e "$0.slow" ]; then sleep 20 & echo $! > "$0.pid"; wait; fi
echo '{"Username":"u","Secret":"s"}'`)
	program := filepath.Join(strings.Split(os.Getenv("PATH"), string(os.PathListSeparator))[0],
		helperPrefix+"pullgate-test")
	d, err := NewDockerConfig(file(t, `{"credsStore":"pullgate-test"}`), registry)
	if err != nil {
		t.Fatal(err)
	}
	overwrite(t, program+".slow", "")
	d.helpers.forget()

	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for range 20 {
		all.Go(func() {
			if _, err := d.Get(ctx, repo); err == nil {
				t.Error("no error")
			}
		})
	}
	child := 0
	for child == 0 {
		time.Sleep(5 * time.Millisecond)
		text, _ := os.ReadFile(program + ".pid")
		child, _ = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	cancel()
	all.Wait()
	if n := runs(); n != 2 {
		t.Errorf("%d runs; want 2", n)
	}
	if alive(child) {
		t.Error("what the helper has started outlives it")
	}

	// One who comes later is not told of the run that was stopped.
	if err := os.Remove(program + ".slow"); err != nil {
		t.Fatal(err)
	}
	if got := mustGet(t, d); got.Username != "u" {
		t.Errorf("%q", got.Username)
	}
}

// alive reports whether a process still runs a while later.
func alive(pid int) bool {
	for range 200 {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(text), ") Z ") {
			return syscall.Kill(pid, 0) == nil && err == nil && !strings.Contains(string(text), ") Z ")
		}
		time.Sleep(10 * time.Millisecond)
	}
	return true
}

// What a helper writes to stderr goes nowhere: it may be a token.
func TestHelperStderr(t *testing.T) {
	helper(t, "pullgate-test", `cat >/dev/null; echo "`+mark+`" >&2; exit 1`)
	kept := os.Stderr
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	os.Stderr = writer
	_, err = NewDockerConfig(file(t, `{"credsStore":"pullgate-test"}`), registry)
	os.Stderr = kept
	_ = writer.Close()

	wantError(t, err, "helper failed")
	buffer := make([]byte, 1000)
	if n, _ := reader.Read(buffer); n > 0 {
		t.Errorf("the gate's stderr has %q", buffer[:n])
	}
}

// Docker Hub's entry stands under each of its names.
func TestDockerHubNames(t *testing.T) {
	t.Parallel()
	hub := Registry{Host: "docker.io", Address: "registry-1.docker.io", ImpliedPort: "443"}
	for _, key := range []string{
		"https://index.docker.io/v1/",
		"index.docker.io",
		"docker.io",
		"registry-1.docker.io",
		"https://registry-1.docker.io",
		"https://registry-1.docker.io/v2/",
		"docker.io/acme",
		"docker.io:443",
	} {
		t.Run(key, func(t *testing.T) {
			d, err := NewDockerConfig(file(t, `{"auths":{"`+key+`":{"auth":"`+encoded("a", "b")+`"}}}`), hub)
			if err != nil {
				t.Fatal(err)
			}
			if got := mustGet(t, d); got.Username != "a" || !d.Configured() {
				t.Errorf("found %q, configured %v", got.Username, d.Configured())
			}
		})
	}
	t.Run("helper", func(t *testing.T) {
		config := `{"credHelpers":{"docker.io":"pullgate-no-such-helper"}}`
		_, err := NewDockerConfig(file(t, config), hub)
		wantError(t, err, "helper failed for docker.io")
	})
}

// Of several entries for one registry the one whose path leads furthest counts,
// at every reading.
func TestEntriesByPath(t *testing.T) {
	t.Parallel()
	entries := func(keys ...string) string {
		var list []string
		for _, key := range keys {
			list = append(list, fmt.Sprintf(`%q:{"auth":%q}`, key, encoded(strings.ReplaceAll(key, ":", "_"), "x")))
		}
		return `{"auths":{` + strings.Join(list, ",") + `}}`
	}
	for _, tt := range []struct {
		keys     []string
		registry Registry
		want     string
	}{
		{[]string{"registry.example/other", "registry.example/acme"}, registry, "registry.example/acme"},
		{[]string{"registry.example", "registry.example/acme"}, registry, "registry.example/acme"},
		{[]string{"registry.example/acme/app", "registry.example/acme"}, registry, "registry.example/acme/app"},
		{[]string{"registry.example/acme/app/more", "registry.example"}, registry, "registry.example"},
		{[]string{"registry.example/ac", "registry.example/other"}, registry, ""},
		{[]string{"https://registry.example/v1/", "registry.example"}, registry, "registry.example"},
		{[]string{"https://registry.example", "http://registry.example"}, registry, "http://registry.example"},
		{
			[]string{"registry.example/hub/acme", "registry.example/acme"},
			Registry{Host: "docker.io", Address: "registry.example", Path: "hub"},
			"registry.example/hub/acme",
		},
		{
			[]string{"registry.example"},
			Registry{Host: "registry.example", Address: "registry.example:443", ImpliedPort: "443"},
			"registry.example",
		},
		{
			[]string{"registry.example:443"},
			Registry{Host: "registry.example", Address: "registry.example", ImpliedPort: "443"},
			"registry.example:443",
		},
		{
			[]string{"registry.example:80", "registry.example:5000"},
			Registry{Host: "registry.example", Address: "registry.example", ImpliedPort: "443"},
			"",
		},
	} {
		t.Run(strings.Join(tt.keys, " "), func(t *testing.T) {
			t.Parallel()
			d, err := NewDockerConfig(file(t, entries(tt.keys...)), tt.registry)
			if err != nil {
				t.Fatal(err)
			}
			for range 50 {
				if got := mustGet(t, d).Username; got != strings.ReplaceAll(tt.want, ":", "_") {
					t.Fatalf("%q; want the one of %q", got, tt.want)
				}
			}
		})
	}
}
