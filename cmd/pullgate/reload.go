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
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy"
)

const (
	settle    = 200 * time.Millisecond // after the last change, so that a file being written is whole
	lookAgain = time.Minute            // network file systems announce no changes
	warnEvery = time.Minute
)

// reloader keeps one configuration in force and replaces it whole. Requests
// that have begun keep theirs.
type reloader struct {
	engine    *engine
	handler   *proxy.Proxy
	telemetry *telemetry
	log       *slog.Logger
	reloads   metric.Int64Counter
	gauges    metric.Registration

	inForce  atomic.Pointer[loaded]
	refused  atomic.Pointer[string] // the problems of what is on disk, while that is not in force
	draining atomic.Bool
	cert     atomic.Pointer[tls.Certificate]

	// Only watch touches these.
	seen  [sha256.Size]byte // what was last loaded, or refused
	tried *loaded           // what was refused: its files are followed too
}

func newReloader(l *loaded, e *engine, handler *proxy.Proxy, t *telemetry, log *slog.Logger) (*reloader, error) {
	r := &reloader{engine: e, handler: handler, telemetry: t, log: log}
	r.inForce.Store(l)
	if err := r.loadCertificate(l); err != nil {
		return nil, err
	}
	meter := t.meter.Meter("github.com/pullgate/pullgate")
	var err1, err2, err3, err4 error
	r.reloads, err1 = meter.Int64Counter("pullgate.config.reloads", metric.WithDescription("Configurations loaded again, by result: done or refused."))
	stale, err2 := meter.Int64ObservableGauge("pullgate.config.refused", metric.WithDescription("1 while the configuration on disk is refused and an older one is in force."))
	warns, err3 := meter.Int64ObservableGauge("pullgate.warn.policies", metric.WithDescription("Policies in warn mode, which refuse nothing; the gate's own warn mode counts every policy."))
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

func (r *reloader) Close() error { return r.gauges.Unregister() }

func (r *reloader) current() *loaded { return r.inForce.Load() }

func (r *reloader) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return r.cert.Load(), nil
}

func (r *reloader) loadCertificate(l *loaded) error {
	c := l.config
	if c.TLS.CertFile == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.path(c.TLS.CertFile), c.path(c.TLS.KeyFile))
	if err != nil {
		return fmt.Errorf("tls: certFile %s, keyFile %s: %w", c.TLS.CertFile, c.TLS.KeyFile, err)
	}
	r.cert.Store(&pair)
	return nil
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
// ends.
func (r *reloader) watch(ctx context.Context) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	changes, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch files: %w", err)
	}
	defer changes.Close()
	r.follow(changes)
	r.seen = r.fingerprint()
	settled := time.NewTimer(lookAgain)
	warn := time.NewTicker(warnEvery)
	defer warn.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-warn.C:
			r.current().warn(r.log)
		case <-hup:
			r.seen = [sha256.Size]byte{} // asked for: load whatever is there
			settled.Reset(0)
		case <-changes.Events:
			settled.Reset(settle)
		case err := <-changes.Errors:
			r.log.Warn("changes of files may have been missed; they are looked at every minute", "error", err)
		case <-settled.C:
			settled.Reset(lookAgain)
			if r.fingerprint() != r.seen {
				r.reload()
			}
			r.follow(changes)
		}
	}
}

// reload puts what is on disk in force, or refuses it whole.
func (r *reloader) reload() {
	old := r.current()
	before := r.fingerprint()
	fresh, problems := load(old.config.file, r.telemetry)
	if r.fingerprint() != before {
		return // still being written: the next event, or the next look, finds it whole
	}
	r.tried = fresh
	r.seen = r.fingerprint()
	if len(problems) == 0 {
		if err := r.loadCertificate(fresh); err != nil {
			problems = append(problems, policy.Problem{File: old.config.file, Message: err.Error()})
		}
	}
	if len(problems) > 0 {
		r.refuse(problems)
		return
	}
	gate, err := fresh.gate(r.engine.store, r.engine.cache)
	if err != nil {
		r.refuse([]policy.Problem{{File: old.config.file, Message: err.Error()}})
		return
	}
	r.handler.Swap(fresh.snapshot(gate))
	r.inForce.Store(fresh)
	r.tried = nil
	r.refused.Store(nil)
	for _, u := range old.upstreams {
		u.Close()
	}
	r.reloads.Add(context.Background(), 1, metric.WithAttributes(attribute.String("result", "done")))
	r.log.Info("configuration loaded again", "policies", len(fresh.policies.Policies()), "upstreams", len(fresh.upstreams))
	if fixed := fresh.config.needsRestart(old.config); len(fixed) > 0 {
		r.log.Warn("these settings take effect at the next start", "settings", strings.Join(fixed, ", "))
	}
	fresh.warn(r.log)
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
		{"listen", c.Listen, old.Listen}, {"admin.listen", c.Admin.Listen, old.Admin.Listen}, {"log", c.Log, old.Log},
		{"state.path", c.State.Path, old.State.Path}, {"verdicts.maxEntries", c.Verdicts.MaxEntries, old.Verdicts.MaxEntries},
		{"manifests.maxBytes", c.Manifests.MaxBytes, old.Manifests.MaxBytes}, {"tls", c.TLS.CertFile == "", old.TLS.CertFile == ""},
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
	slices.Sort(files)
	return slices.DeleteFunc(slices.Compact(files), func(f string) bool { return f == "" })
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
		files = append(files, c.path(u.CAFile))
	}
	return append(files, c.path(c.TLS.CertFile), c.path(c.TLS.KeyFile))
}

// follow watches the folders of all files, and of what they point to: a
// ConfigMap's files are links into a folder that is swapped.
func (r *reloader) follow(w *fsnotify.Watcher) {
	dirs := map[string]bool{}
	for _, f := range r.files() {
		dirs[filepath.Dir(f)] = true
		if real, err := filepath.EvalSymlinks(f); err == nil {
			dirs[filepath.Dir(real)] = true
		}
	}
	c := r.current().config
	for _, pattern := range c.PolicyFiles {
		dir := filepath.Dir(c.path(pattern))
		if found, err := filepath.Glob(dir); err == nil {
			for _, d := range found {
				dirs[d] = true
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
				r.log.Debug("folder cannot be watched; its files are looked at every minute", "folder", dir, "error", err)
			}
		}
	}
}

// fingerprint is a hash of the files' names and contents.
func (r *reloader) fingerprint() (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, name := range r.files() {
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
