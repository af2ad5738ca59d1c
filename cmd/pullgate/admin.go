package main

import (
	"fmt"
	"net/http"
)

// adminHandler answers probes, scrapes and questions about decisions, on a port that is not for pulls.
func adminHandler(r *reloader) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		switch {
		case r.draining.Load():
			say(w, http.StatusServiceUnavailable, "draining\n")
		case r.refused.Load() != nil:
			// Still ready: the configuration before the refused one is in force.
			say(
				w,
				http.StatusOK,
				"ok, but the configuration on disk was refused and an older one is in force:\n"+*r.refused.Load(),
			)
		default:
			say(w, http.StatusOK, "ok\n")
		}
	})
	mux.Handle("GET /metrics", r.telemetry.Metrics)
	mux.Handle("GET /decisions", r.decisions)
	return mux
}

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprint(w, text) // a prober that left needs no answer
}
