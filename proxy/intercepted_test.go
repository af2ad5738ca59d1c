package proxy_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/policy"
)

// TestInterceptedRequests: a client that believes it speaks to a registry is led to
// that one and to no other, whatever its request says.
func TestInterceptedRequests(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.signed("v1")
	ask := func(method, target string, client *policy.Client) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		req := httptest.NewRequestWithContext(t.Context(), method, target, nil)
		r.proxy.ServeIntercepted(w, req, "reg.example", client)
		return w
	}
	for target, want := range map[string]int{
		"https://reg.example/v2/":                                     http.StatusOK,
		"https://reg.example/v2/prod/app/manifests/v1":                http.StatusOK,
		"https://other.example/v2/prod/app/manifests/v1":              http.StatusOK,        // Host is no choice
		"https://reg.example/v2/reg.example/prod/app/manifests/v1":    http.StatusForbidden, // a path
		"https://reg.example/v2/prod/app/manifests/v1?ns=reg.example": http.StatusBadRequest,
		"https://reg.example/v2/prod/app/manifests/v1?ns=":            http.StatusBadRequest,
	} {
		if w := ask(http.MethodGet, target, nil); w.Code != want {
			t.Errorf("%s: %d %s, not %d", target, w.Code, w.Body, want)
		}
	}
	w := ask(http.MethodPost, "https://reg.example/v2/prod/app/blobs/uploads/", nil)
	if w.Code != http.StatusMethodNotAllowed || !strings.Contains(w.Body.String(), "NO_PROXY=reg.example") {
		t.Errorf("a push: %d %s", w.Code, w.Body)
	}
}
