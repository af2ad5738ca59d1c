package proxy_test

import (
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// A log line names its trace, where there is one.
func TestLoggedTrace(t *testing.T) {
	t.Parallel()
	const id = "0af7651916cd43dd8448eb211c80319c"
	for name, c := range map[string]struct {
		tracer trace.TracerProvider
		want   any
	}{
		"traced":     {sdktrace.NewTracerProvider(), id},
		"not traced": {tracenoop.NewTracerProvider(), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(o *options) { o.tracer = c.tracer })
			r.signed("v1")
			for _, path := range []string{manifests("prod/app", "v1"), manifests("prod/app", "absent"), "/v2/b/c/d"} {
				r.get(path, "traceparent", "00-"+id+"-b7ad6b7169203331-01")
			}
			for _, line := range r.log.lines(t) {
				if line["trace_id"] != c.want {
					t.Errorf("trace_id %v, want %v, of %v", line["trace_id"], c.want, line["path"])
				}
			}
		})
	}
}
