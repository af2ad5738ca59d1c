package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/pullgate/pullgate/cmd/pullgate/telemetry"
	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy"
	"github.com/pullgate/pullgate/verify"
)

const (
	settle       = 200 * time.Millisecond // after the last change, so that a file being written is whole
	settleAtMost = 2 * time.Second        // after the first
	lookAgain    = time.Minute            // network file systems announce no changes
)

// reloader keeps one configuration in force and replaces it whole. Requests
// that have begun keep theirs.
type reloader struct {
	engine    *engine
	handler   *proxy.Proxy
	telemetry *telemetry.SDK
	log       *slog.Logger
	reloads   metric.Int64Counter
	gauges    metric.Registration
	listening string     // the address that was bound at the start
	decisions *decisions // nil: they go nowhere

	inForce  atomic.Pointer[loaded]
	refused  atomic.Pointer[string] // the problems of what is on disk, while that is not in force
	draining atomic.Bool
	cert     atomic.Pointer[tls.Certificate]

	// Only watch touches these.
	seen  [sha256.Size]byte // what was last loaded, or refused
	tried *loaded           // what was refused: its files are followed too
}

func newReloader(l *loaded, e *engine, handler *proxy.Proxy, t *telemetry.SDK, log *slog.Logger) (*reloader, error) {
	r := &reloader{
		engine:    e,
		handler:   handler,
		telemetry: t,
		log:       log,
		listening: l.config.Listen,
		seen:      l.sum,
	}
	r.inForce.Store(l)
	certificate, err := l.certificate()
	if err != nil {
		return nil, err
	}
	r.cert.Store(certificate)
	meter := t.Meter.Meter("github.com/pullgate/pullgate")
	var err1, err2, err3, err4 error
	r.reloads, err1 = meter.Int64Counter(
		"pullgate.config.reloads",
		metric.WithDescription("Configurations loaded again, by result: done or refused."),
	)
	stale, err2 := meter.Int64ObservableGauge(
		"pullgate.config.refused",
		metric.WithDescription("1 while the configuration on disk is refused and an older one is in force."),
	)
	warns, err3 := meter.Int64ObservableGauge(
		"pullgate.warn.policies",
		metric.WithDescription(
			"Policies in warn mode, which refuse nothing; the gate's own warn mode counts every policy.",
		),
	)
	r.gauges, err4 = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		var isStale int64
		if r.refused.Load() != nil {
			isStale = 1
		}
		o.ObserveInt64(stale, isStale)
		o.ObserveInt64(warns, r.current().warnPolicies())
		return nil
	}, stale, warns)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, fmt.Errorf("create metrics: %w", err)
	}
	return r, nil
}

// Close lets go of the registries' connections: nobody asks any more.
func (r *reloader) Close() error {
	for _, u := range r.current().upstreams {
		u.Close()
	}
	return r.gauges.Unregister()
}

func (r *reloader) current() *loaded { return r.inForce.Load() }

// certificate reads the listener's certificate; nil without TLS.
func (l *loaded) certificate() (*tls.Certificate, error) {
	c := l.config
	if c.TLS.CertFile == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(c.path(c.TLS.CertFile), c.path(c.TLS.KeyFile))
	if err != nil {
		return nil, fmt.Errorf("tls: certFile %s, keyFile %s: %w", c.TLS.CertFile, c.TLS.KeyFile, err)
	}
	return &pair, nil
}

func (l *loaded) warnPolicies() int64 {
	n := int64(0)
	for _, p := range l.policies.Policies() {
		if l.mode == policy.Warn || p.Mode == policy.Warn && (p.Expires.IsZero() || time.Now().Before(p.Expires)) {
			n++
		}
	}
	return n
}

// watch loads the configuration again on SIGHUP and on any change, until ctx
// ends. hup was asked for before anything else was done.
func (r *reloader) watch(ctx context.Context, hup <-chan os.Signal) error {
	var events <-chan fsnotify.Event
	var failures <-chan error
	changes, err := fsnotify.NewWatcher()
	if err != nil {
		r.log.Warn("files cannot be watched; they are looked at every minute", "error", err)
	} else {
		defer changes.Close()
		events, failures = changes.Events, changes.Errors
	}
	r.follow(changes)
	settled := time.NewTimer(settle) // what changed while this process was starting
	look := time.NewTicker(lookAgain)
	defer look.Stop()
	var since time.Time // of the first change that has not been looked at
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failures:
			r.log.Warn("changes of files may have been missed; they are looked at every minute", "error", err)
			continue
		case <-events:
			// A busy file in the same folder must not put the look off for ever.
			if since.IsZero() {
				since = time.Now()
			}
			settled.Reset(max(0, min(settle, time.Until(since.Add(settleAtMost)))))
			continue
		case <-r.engine.trust.Changed():
			r.judgeAgain()
			continue
		case <-hup:
			r.seen = [sha256.Size]byte{} // asked for: load whatever is there
			r.engine.trust.Ask()
		case <-look.C:
		case <-settled.C:
		}
		since = time.Time{}
		if again := r.look(); again {
			settled.Reset(settle)
		}
		r.follow(changes)
	}
}

// look loads the files if they are not what was last loaded or refused. again
// says that they changed meanwhile: half a file may be a valid one.
func (r *reloader) look() (again bool) {
	if fingerprint(r.files()) == r.seen {
		return false
	}
	fresh, _ := r.load()
	r.tried = fresh // its files count from here on, those that only it names too
	before := fingerprint(r.files())
	fresh, problems := r.load()
	if fingerprint(r.files()) != before {
		return true
	}
	r.seen = before
	r.replace(fresh, problems)
	return false
}

func (r *reloader) load() (*loaded, []policy.Problem) {
	return loadOver(r.current().config.file, os.Environ(), r.telemetry, r.current())
}

// replace puts a configuration in force, or refuses it whole.
func (r *reloader) replace(fresh *loaded, problems []policy.Problem) {
	old := r.current()
	one := func(err error) []policy.Problem {
		return []policy.Problem{policy.Position{File: old.config.file}.Problem("%v", err)}
	}
	if len(problems) > 0 {
		r.refuse(problems)
		return
	}
	if fresh.config.needsClients(r.listening) {
		r.refuse(
			one(
				errors.New(
					"upstream credentials would be behind the listener " +
						r.listening + ", which is open until the next start",
				),
			),
		)
		return
	}
	certificate, err := fresh.certificate()
	if err != nil {
		r.refuse(one(err))
		return
	}
	gate, err := fresh.gate(r.engine)
	if err != nil {
		r.refuse(one(err))
		_, _ = r.engine.trust.Use(old.policies) // as before: they are in force
		return
	}
	if certificate != nil {
		r.cert.Store(certificate)
	}
	r.handler.Swap(fresh.snapshot(gate))
	r.inForce.Store(fresh)
	r.tried = nil
	r.refused.Store(nil)
	for host, u := range old.upstreams {
		if fresh.upstreams[host] != u {
			u.Close()
		}
	}
	r.reloads.Add(context.Background(), 1, metric.WithAttributes(attribute.String("result", "done")))
	r.log.Info(
		"configuration loaded again",
		"policies",
		len(fresh.policies.Policies()),
		"upstreams",
		len(fresh.upstreams),
	)
	if fixed := fresh.config.needsRestart(old.config); len(fixed) > 0 {
		r.log.Warn("these settings take effect at the next start", "settings", strings.Join(fixed, ", "))
	}
	fresh.warn(r.log)
}

// judgeAgain puts a trust root or a key that has changed in force. Verdicts are
// remembered under the roots they were made with, so none outlives its root.
func (r *reloader) judgeAgain() {
	l := r.current()
	trusted, err := r.engine.trust.Use(l.policies)
	if err == nil {
		if unfit := l.unfit(trusted); len(unfit) > 0 {
			err = fmt.Errorf(
				"trust root %s lacks a log or a timestamp authority that a policy demands",
				strings.Join(unfit, ", "),
			)
		}
	}
	var gate *verify.Gate
	if err == nil {
		gate, err = l.gate(r.engine)
	}
	if err != nil {
		r.log.Error(
			"a trust root or key that was fetched does not suit the policies; the one before stays in force until "+
				"the next start",
			"error",
			err,
		)
		return
	}
	r.handler.Swap(l.snapshot(gate))
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

// needsRestart names the settings that differ and are read only at the start.
func (c *config) needsRestart(old *config) []string {
	var names []string
	for _, s := range []struct {
		name     string
		now, was any
	}{
		{"listen", c.Listen, old.Listen},
		{"admin.listen", c.Admin.Listen, old.Admin.Listen},
		{"log", c.Log, old.Log},
		{"state.path", c.State.Path, old.State.Path},
		{"state.maxBytes", c.State.MaxBytes, old.State.MaxBytes},
		{"verdicts.maxEntries", c.Verdicts.MaxEntries, old.Verdicts.MaxEntries},
		{"manifests.maxBytes", c.Manifests.MaxBytes, old.Manifests.MaxBytes},
		{"tls", c.TLS.CertFile == "", old.TLS.CertFile == ""},
		{"decisions", c.Decisions, old.Decisions},
	} {
		if s.now != s.was {
			names = append(names, s.name)
		}
	}
	return names
}

// files are everything the configuration in force, and one refused since, were
// read from or looked for.
func (r *reloader) files() []string {
	files := r.current().files()
	if r.tried != nil {
		files = append(files, r.tried.files()...)
	}
	return slices.DeleteFunc(files, func(f string) bool { return f == "" })
}

func (l *loaded) files() []string {
	c := l.config
	files := append([]string{c.file}, l.policies.Files()...)
	for _, pattern := range c.PolicyFiles {
		if found, err := filepath.Glob(c.path(pattern)); err == nil {
			files = append(files, found...)
		}
	}
	for _, u := range c.Upstreams {
		files = append(files, c.path(u.CAFile), c.path(u.Auth.PasswordFile), c.path(u.Auth.File))
	}
	return append(files, c.path(c.TLS.CertFile), c.path(c.TLS.KeyFile))
}

// follow watches the folders of all files, and of what they point to: a
// ConfigMap's files are links into a folder that is swapped.
func (r *reloader) follow(w *fsnotify.Watcher) {
	if w == nil {
		return
	}
	dirs := map[string]bool{}
	for _, f := range r.files() {
		dirs[filepath.Dir(f)] = true
		if real, err := filepath.EvalSymlinks(f); err == nil {
			dirs[filepath.Dir(real)] = true
		}
	}
	for _, l := range []*loaded{r.current(), r.tried} {
		if l == nil {
			continue
		}
		for _, pattern := range l.config.PolicyFiles {
			if found, err := filepath.Glob(filepath.Dir(l.config.path(pattern))); err == nil {
				for _, d := range found {
					dirs[d] = true
				}
			}
		}
	}
	for _, known := range w.WatchList() {
		if !dirs[known] {
			_ = w.Remove(known) // it may be gone already
		}
	}
	for dir := range dirs {
		if !slices.Contains(w.WatchList(), dir) {
			if err := w.Add(dir); err != nil {
				r.log.Debug(
					"folder cannot be watched; its files are looked at every minute",
					"folder",
					dir,
					"error",
					err,
				)
			}
		}
	}
}

// fingerprint is a hash of the files' names and contents.
func fingerprint(files []string) (sum [sha256.Size]byte) {
	h := sha256.New()
	slices.Sort(files)
	for _, name := range slices.Compact(files) {
		if name == "" {
			continue
		}
		fmt.Fprintf(h, "%d:%s", len(name), name)
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		n, _ := io.Copy(h, io.LimitReader(f, maxConfigBytes+1)) // a file that cannot be read is found out by load
		fmt.Fprintf(h, "|%d|", n)
		_ = f.Close()
	}
	h.Sum(sum[:0])
	return sum
}
