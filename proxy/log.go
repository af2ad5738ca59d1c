package proxy

import (
	"log/slog"
	"net/http"
	"time"
)

const (
	maxLoggedAgent = 120  // bytes of a user agent
	maxLoggedPath  = 500  // bytes of a path that could not be parsed
	maxLoggedError = 4000 // bytes of an error
)

// write logs the decision. Errors are logged whole here and nowhere else; none
// of them carries a token or a password.
func (o *observer) write(x *exchange, outcome string, took time.Duration, err error) {
	level := levelOf(err)
	if !o.log.Enabled(x.ctx, level) {
		return
	}

	attrs := append(make([]slog.Attr, 0, 16),
		slog.String("outcome", outcome),
		slog.String("kind", x.request.kind.String()),
		slog.String("method", x.method),
		slog.String("image", x.request.repo.String()),
		slog.String("reference", x.request.ref.String()),
		slog.String("client", x.request.client.Addr),
		slog.String("agent", x.obs.agent[:min(len(x.obs.agent), maxLoggedAgent)]),
	)
	if name := x.request.client.Name; name != "" {
		attrs = append(attrs, slog.String("client_name", name))
	}
	if x.obs.path != "" {
		attrs = append(attrs, slog.String("path", x.obs.path[:min(len(x.obs.path), maxLoggedPath)]))
	}
	if x.obs.judged {
		attrs = appendVerdict(attrs, x)
	}
	if x.obs.redirected {
		attrs = append(attrs, slog.Bool("redirected", true))
	}
	if err != nil {
		status := asHTTPError(err).status
		attrs = append(attrs, slog.Int("status", status))
		if !x.obs.judged || status != http.StatusForbidden {
			text := err.Error()
			attrs = append(attrs, slog.String("error", text[:min(len(text), maxLoggedError)]))
		}
	}
	attrs = append(attrs,
		slog.Float64("ms", milliseconds(took)),
		slog.Float64("upstream_ms", milliseconds(x.obs.result.Upstream+x.obs.opening)),
		slog.String("decision", x.obs.id),
	)
	if in := x.obs.span.SpanContext(); in.HasTraceID() {
		attrs = append(attrs, slog.String("trace_id", in.TraceID().String()))
	}

	o.log.LogAttrs(x.ctx, level, "pull", slog.Attr{Value: slog.GroupValue(attrs...)})
}

// levelOf is how loud a request's line is. A refusal, and what the gate or a
// registry could not do, wants an admin's eye; what a client asked for in vain,
// or wrongly, does not.
func levelOf(err error) slog.Level {
	if err == nil {
		return slog.LevelInfo
	}

	if showedNothing(err) {
		return slog.LevelInfo
	}
	switch asHTTPError(err).status {
	case http.StatusNotFound, http.StatusBadRequest, http.StatusGone, http.StatusRequestedRangeNotSatisfiable,
		http.StatusUnavailableForLegalReasons:
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

func appendVerdict(attrs []slog.Attr, x *exchange) []slog.Attr {
	v := &x.obs.result
	attrs = append(attrs,
		slog.String("digest", v.Digest.String()),
		slog.String("policy", v.Policy),
		slog.Bool("cache", v.CacheHit),
	)
	if v.Signer != "" {
		attrs = append(attrs, slog.String("signer", v.Signer))
	}
	if len(v.Reasons) > 0 {
		attrs = append(attrs, slog.Any("reasons", v.Reasons))
	}
	return attrs
}

// milliseconds is d with three digits after the point.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
