package credentials

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// world is all that the sources of clouds can reach in a test: services by host.
// Nothing of it leaves the process, least of all to a metadata service, which a
// machine that runs tests may really have.
type world struct {
	services map[string]http.HandlerFunc

	mu   sync.Mutex
	seen []sent
}

// sent is one request.
type sent struct {
	host, method, uri string
	header            http.Header
	body              string
}

func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
		_ = r.Body.Close()
	}
	w.mu.Lock()
	w.seen = append(w.seen, sent{r.URL.Host, r.Method, r.URL.RequestURI(), r.Header.Clone(), string(body)})
	w.mu.Unlock()

	service := w.services[r.URL.Host]
	if service == nil {
		return nil, fmt.Errorf("no service is called %s", r.URL.Host)
	}
	answer := httptest.NewRecorder()
	at := r.Clone(r.Context())
	at.Body = io.NopCloser(bytes.NewReader(body))
	service(answer, at)
	resp := answer.Result()
	resp.Request = r
	return resp, nil
}

// to are the requests to one host.
func (w *world) to(host string) []sent {
	w.mu.Lock()
	defer w.mu.Unlock()

	var list []sent
	for _, s := range w.seen {
		if s.host == host {
			list = append(list, s)
		}
	}
	return list
}

// hosts are the hosts that were asked.
func (w *world) hosts() []string {
	w.mu.Lock()
	defer w.mu.Unlock()

	var list []string
	for _, s := range w.seen {
		if !slices.Contains(list, s.host) {
			list = append(list, s.host)
		}
	}
	return list
}

func (s sent) form() url.Values {
	form, _ := url.ParseQuery(s.body)
	return form
}

// bareEnvironment takes away what this machine says of its clouds.
func bareEnvironment(t *testing.T) {
	t.Helper()
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		for _, prefix := range []string{"AWS_", "AZURE_", "GOOGLE_", "GCE_", "IDENTITY_", "MSI_", "IMDS_"} {
			if strings.HasPrefix(name, prefix) {
				t.Setenv(name, "")
				_ = os.Unsetenv(name) // t.Setenv puts it back
			}
		}
	}
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(home, "none"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(home, "none"))
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

// at is a registry of a cloud.
func at(address string) Registry {
	return Registry{Host: address, Address: address, ImpliedPort: "443"}
}

// lookalikes are names that only look like a service's host: an unanchored
// pattern would take them.
func lookalikes(host string) []string {
	return []string{
		host + ".evil.example",
		host + ".",
		host + ":8443",
		host + ":",
		host + "@evil.example",
		host + "/",
		host + "\n",
		host + ":443:443",
		"evil.example/" + host,
		"evil" + "." + host,
		"evil-" + strings.Replace(host, ".", "x", 1),
		strings.Replace(host, ".", "", 1),
		strings.ReplaceAll(host, ".", "-"),
		" " + host,
		"",
	}
}

// never checks that no request went to a host, and that none carried a secret
// anywhere but to those that are allowed to see it.
func (w *world) never(t *testing.T, host string) {
	t.Helper()
	if got := w.to(host); len(got) != 0 {
		t.Errorf("%s got %d requests", host, len(got))
	}
}

func reply(status int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}
}

func redirect(to string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusTemporaryRedirect)
	}
}

// capture is what standard error gets while f runs.
func capture(t *testing.T, f func()) string {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	kept := os.Stderr
	os.Stderr = writer
	f()
	os.Stderr = kept
	_ = writer.Close()

	text, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// script writes a program for the shell. No other test starts a program meanwhile:
// it would inherit the open file, and a program that is open to be written cannot
// be run.
func script(t *testing.T, name, text string) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}
