package server

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/pullgate/pullgate/cmd/pullgate/decisions"
	"github.com/pullgate/pullgate/cmd/pullgate/telemetry"
	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy"
	"github.com/pullgate/pullgate/verify"
)

// reloader keeps one configuration in force and replaces it whole. Requests
// that have begun keep theirs.
type reloader struct {
	engine    *engine
	handler   *proxy.Proxy
	telemetry *telemetry.SDK
	log       *slog.Logger
	recorder  *decisions.Recorder // nil: decisions go nowhere
	listening string              // the address that was bound at the start

	reloads metric.Int64Counter
	gauges  metric.Registration

	inForce  atomic.Pointer[Loaded]
	refused  atomic.Pointer[string] // the problems of what is on disk, while that is not in force
	draining atomic.Bool
	cert     atomic.Pointer[tls.Certificate]
	newKeys  chan struct{} // the keys of tokens are others than before

	// Only watch touches these.
	seen  [sha256.Size]byte // what was last loaded, or refused
	tried *Loaded           // what was refused: its files are followed too
}

// start puts the first configuration in force.
func (r *reloader) start(l *Loaded) error {
	r.inForce.Store(l)

	certificate, err := l.certificate()
	if err != nil {
		return err
	}
	r.cert.Store(certificate)

	if err := errors.Join(r.measure(), measureBuild(r.telemetry.Meter)); err != nil {
		return fmt.Errorf("create metrics: %w", err)
	}
	return nil
}

// measure creates the metrics about the configuration in force.
func (r *reloader) measure() error {
	meter := r.telemetry.Meter.Meter("github.com/pullgate/pullgate")

	var err1, err2, err3, err4, err5 error
	r.reloads, err1 = meter.Int64Counter(
		"pullgate.config.reloads",
		metric.WithDescription("Configurations loaded again, by result: done or refused."),
	)
	stale, err2 := meter.Int64ObservableGauge(
		"pullgate.config.refused",
		metric.WithDescription("1 while the configuration on disk is refused and an older one is in force."),
	)
	warn, err3 := meter.Int64ObservableGauge(
		"pullgate.warn.policies",
		metric.WithDescription(
			"Policies in warn mode, which refuse nothing; the gate's own warn mode counts every policy.",
		),
	)

	end, err4 := meter.Int64ObservableGauge(
		"pullgate.certificate.end",
		metric.WithUnit("s"),
		metric.WithDescription("When the certificate of the port for pulls ends, in Unix time; 0 without TLS."),
	)

	r.gauges, err5 = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		isStale := int64(0)
		if r.refused.Load() != nil {
			isStale = 1
		}
		o.ObserveInt64(stale, isStale)
		o.ObserveInt64(warn, r.current().warnPolicies())
		o.ObserveInt64(end, r.certificateEnd())
		return nil
	}, stale, warn, end)

	return errors.Join(err1, err2, err3, err4, err5)
}

// Close closes the registries' connections. No request may be running any more.
func (r *reloader) Close() error {
	r.current().upstreams.Close()
	return r.gauges.Unregister()
}

func (r *reloader) current() *Loaded { return r.inForce.Load() }

// look loads the files if they are not what was last loaded or refused. It
// returns true if they kept changing meanwhile: half a file may be a valid one.
func (r *reloader) look() (again bool) {
	found := fingerprint(r.latest().files())
	if found == r.seen {
		return false
	}

	fresh, problems, ok := settled(r.read)
	switch {
	case !ok:
		return true
	case fresh != nil:
		r.tried, r.seen = fresh, fresh.sum
	case fingerprint(r.latest().files()) != found:
		return true
	default: // what cannot be understood at all names no other files
		r.seen = found
	}

	r.replace(fresh, problems)
	return false
}

func (r *reloader) read() (*Loaded, []policy.Problem) {
	return read(r.current().Config.File(), os.Environ(), r.telemetry, r.current())
}

// replace puts a configuration in force, or refuses it whole.
func (r *reloader) replace(fresh *Loaded, problems []policy.Problem) {
	if len(problems) > 0 {
		r.refuse(problems)
		return
	}
	certificate, gate, err := r.prepare(fresh)
	if err != nil {
		r.refuse([]policy.Problem{r.current().Config.Problem("", "%v", err)})
		return
	}

	old := r.current()
	if certificate != nil {
		r.cert.Store(certificate)
	}
	r.handler.Swap(fresh.snapshot(gate))
	r.inForce.Store(fresh)
	if fresh.identities.keys.made != old.identities.keys.made {
		select {
		case r.newKeys <- struct{}{}:
		default: // said already, and not heard yet
		}
	}
	r.tried = nil
	r.refused.Store(nil)
	old.upstreams.Close(fresh.upstreams)

	r.reloads.Add(context.Background(), 1, metric.WithAttributes(attribute.String("result", "done")))
	r.log.Info(
		"configuration loaded again",
		"policies", len(fresh.Policies.Policies()),
		"upstreams", fresh.upstreams.Len(),
	)
	if fixed := fresh.Config.NeedsRestart(old.Config); len(fixed) > 0 {
		r.log.Warn("these settings take effect at the next start", "settings", strings.Join(fixed, ", "))
	}
	fresh.warn(r.log)
}

// prepare makes what fresh needs to be in force; with an error nothing has
// changed.
func (r *reloader) prepare(fresh *Loaded) (*tls.Certificate, *verify.Gate, error) {
	if fresh.Config.ExposesCredentials(r.listening) {
		return nil, nil, fmt.Errorf(
			"upstream credentials would be behind the listener %s, which is open until the next start",
			r.listening,
		)
	}

	certificate, err := fresh.certificate()
	if err != nil {
		return nil, nil, err
	}

	gate, err := fresh.gate(r.engine)
	if err != nil {
		_, _ = r.engine.trust.Use(r.current().Policies) // as before: they are in force
		return nil, nil, err
	}
	return certificate, gate, nil
}

// renewTrust puts a trust root or a key that has changed in force. Verdicts are
// remembered under the roots they were made with, so none outlives its root.
func (r *reloader) renewTrust() {
	l := r.current()

	gate, err := l.suitableGate(r.engine)
	if err != nil {
		r.log.Error(
			"fetched trust root or key does not suit the policies; "+
				"the previous one stays in force until the next start",
			"error", err,
		)
		return
	}
	r.handler.Swap(l.snapshot(gate))
}

// suitableGate is gate, and fails where a root does not suit the policies.
func (l *Loaded) suitableGate(e *engine) (*verify.Gate, error) {
	trusted, err := e.trust.Use(l.Policies)
	if err != nil {
		return nil, err
	}

	if unfit := l.unfit(trusted); len(unfit) > 0 {
		return nil, fmt.Errorf(
			"trust root %s lacks a log or a timestamp authority that a policy demands",
			strings.Join(unfit, ", "),
		)
	}
	return l.gate(e)
}

func (r *reloader) refuse(problems []policy.Problem) {
	var text strings.Builder
	for _, p := range problems {
		text.WriteString(p.String() + "\n")
		r.log.Error("the configuration on disk is refused; the older one stays in force", "problem", p.String())
	}

	all := text.String()
	r.refused.Store(&all)
	r.reloads.Add(context.Background(), 1, metric.WithAttributes(attribute.String("result", "refused")))
}
