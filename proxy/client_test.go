package proxy_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy"
)

// authenticated is a handler before r's registry that knows clients by name.
func authenticated(r *rig, who func(*http.Request) (policy.Client, error)) http.Handler {
	r.t.Helper()
	s := r.snapshot()
	s.Authenticate = who
	handler, err := proxy.New(proxy.Config{
		Log:       slog.New(slog.NewTextHandler(r.log, nil)),
		Tracer:    tracenoop.NewTracerProvider(),
		Meter:     metricnoop.NewMeterProvider(),
		Decisions: r.record.take,
	}, s)
	if err != nil {
		r.t.Fatal(err)
	}
	return handler
}

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	byHeader := func(r *http.Request) (policy.Client, error) {
		name := r.Header.Get("X-Client")
		if name == "" {
			return policy.Client{}, errors.New("no name")
		}
		return policy.Client{Addr: name}, nil
	}
	ask := func(handler http.Handler, path, name string) *httptest.ResponseRecorder {
		req := httptest.NewRequest(http.MethodGet, path, nil)
		req.Header.Set("X-Client", name)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, req)
		return w
	}

	t.Run("client", func(t *testing.T) {
		r := newRig(t)
		r.signed("v1")
		if w := ask(authenticated(r, byHeader), manifests("prod/app", "v1"), "node-1"); w.Code != http.StatusOK {
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
		list := r.record.drain()
		if len(list) != 1 || list[0].Client != "node-1" {
			t.Errorf("recorded %+v", list)
		}
	})

	t.Run("budget", func(t *testing.T) {
		r := newRig(t, func(o *options) { o.limits = func(l *limits) { l.ClientMisses = 1 } })
		r.signed("v1")
		handler := authenticated(r, byHeader)
		for i, step := range []struct {
			client string
			status int
		}{
			{"a", http.StatusOK},
			{"a", http.StatusTooManyRequests},
			{"b", http.StatusOK},
		} {
			w := ask(handler, "/v2/reg.example/prod/app/tags/list", step.client)
			if w.Code != step.status {
				t.Errorf("question %d, of %s: status %d, want %d", i, step.client, w.Code, step.status)
			}
		}
	})

	t.Run("error", func(t *testing.T) {
		r := newRig(t)
		r.signed("v1")
		handler := authenticated(r, byHeader)
		for _, path := range []string{"/v2/", manifests("prod/app", "v1"), "/v2/reg.example/prod/app/tags/list"} {
			w := ask(handler, path, "")
			if w.Code != http.StatusServiceUnavailable || bytes.Contains(w.Body.Bytes(), []byte("no name")) {
				t.Errorf("%s: status %d: %s", path, w.Code, w.Body)
			}
		}
		if asked := r.reg.Requests(); len(asked) > 0 {
			t.Errorf("the registry was asked %v", asked)
		}
	})

	t.Run("address", func(t *testing.T) {
		req := httptest.NewRequest(http.MethodGet, "/v2/", nil)
		req.RemoteAddr = "[2001:db8::1]:4711"
		req.Header.Set("X-Forwarded-For", "192.0.2.1")
		if client, err := proxy.ClientByAddress(req); client.Addr != "2001:db8::1" || err != nil {
			t.Errorf("%+v, %v", client, err)
		}
	})
}
