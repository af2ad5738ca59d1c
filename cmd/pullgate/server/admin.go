package server

import (
	"fmt"
	"net/http"
)

// adminHandler answers probes, scrapes and questions about decisions, on a port
// that is not for pulls, where it is asked for by its own name.
func adminHandler(r *reloader) http.Handler {
	mux := http.NewServeMux()

	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("GET /readyz", r.ready)
	mux.Handle("GET /metrics", r.telemetry.Metrics)
	mux.Handle("GET /decisions", r.recorder)

	return r.onlyKnownHosts(mux)
}

func (r *reloader) ready(w http.ResponseWriter, _ *http.Request) {
	const older = "ok, but the configuration on disk was refused and an older one is in force:\n"

	refused := r.refused.Load()
	switch {
	case r.draining.Load():
		say(w, http.StatusServiceUnavailable, "draining\n")
	case refused != nil:
		// Still ready: the configuration before the refused one is in force.
		say(w, http.StatusOK, older+*refused)
	default:
		say(w, http.StatusOK, "ok\n")
	}
}

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprint(w, text) // a prober that left needs no answer
}
