package server_test

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pullgate/pullgate/test/rig"
)

// A name that resolves to the admin port's address is not yet its name: a page
// of another site would read the record through its visitor's browser.
func TestForeignHost(t *testing.T) {
	t.Parallel()
	r := rig.Start(t, func(r *rig.Rig) string { return r.Keyed(t) })
	ask := func(path, host string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.Admin+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		return rig.Do(t, req)
	}

	for _, path := range []string{"/decisions", "/metrics", "/readyz", "/healthz", "//decisions", "/"} {
		status, body := ask(path, "rebound.example:5001")
		if status != http.StatusMisdirectedRequest || !strings.Contains(body, "admin.hostnames") {
			t.Errorf("%s by a foreign name: %d %s", path, status, body)
		}
	}
	for _, host := range []string{r.Admin, "localhost", "[::1]:1"} {
		if status, body := ask("/decisions", host); status != http.StatusOK {
			t.Errorf("by %s: %d %s", host, status, body)
		}
	}

	rig.Replace(t, filepath.Join(r.Dir, "pullgate.yaml"),
		strings.Replace(r.Config, "admin: {", "admin: {hostnames: [rebound.example], ", 1))
	for range 600 {
		if status, _ := ask("/readyz", "rebound.example"); status == http.StatusOK {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("a name that is listed later is not answered")
}
