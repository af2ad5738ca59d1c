// Package server runs a gate: it wires one from a configuration, listens, loads
// the configuration again while pulls go on, and drains. Verify decides what is
// admitted, and decisions records it. It must not know how images are signed: no
// signing package is reachable from here.
package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pullgate/pullgate/cmd/pullgate/config"
	"github.com/pullgate/pullgate/cmd/pullgate/decisions"
	"github.com/pullgate/pullgate/cmd/pullgate/version"
	"github.com/pullgate/pullgate/proxy"
	"github.com/pullgate/pullgate/proxy/clients"
	"github.com/pullgate/pullgate/verify/trust"
)

// Serve runs one gate until ctx ends, and then drains it. Its log lines go to
// stderr; what hangup receives loads the configuration again, and nil leaves that
// to changes of files. At the end it stops the telemetry that l was loaded with.
func Serve(ctx context.Context, l *Loaded, stderr io.Writer, hangup <-chan os.Signal) error {
	buffer := newLogBuffer(stderr, func(lost int) []byte { return lostLines(l.Config.Log, lost) })
	defer buffer.Close()
	log, err := newLogger(l.Config.Log, buffer)
	if err != nil {
		return err
	}
	// net/http's client prints what a registry sends unasked, through the standard logger.
	slog.SetDefault(log)

	t := l.telemetry
	keep := trust.Config{Dir: l.trustDir(), Log: log, Meter: t.Meter}
	e, err := l.newEngine(l.Config.StatePath(), keep)
	if err != nil {
		return err
	}
	if err := l.share(ctx, e, log); err != nil {
		return errors.Join(err, e.Close())
	}
	first, err := l.gate(e)
	if err != nil {
		return errors.Join(err, e.Close())
	}
	recorder, err := decisions.Open(ctx, l.decisions(log))
	if err != nil {
		return errors.Join(err, e.Close())
	}

	pulls := proxy.Config{
		Log:       log,
		Tracer:    t.Tracer,
		Meter:     t.Meter,
		Decisions: recorder.Taker(),
	}
	handler, err := proxy.New(pulls, l.snapshot(first))
	if err != nil {
		return errors.Join(err, recorder.Close(), e.Close())
	}
	r := &reloader{
		engine:    e,
		handler:   handler,
		telemetry: t,
		log:       log,
		recorder:  recorder,
		listening: l.Config.Listen,
		newKeys:   make(chan struct{}, 1),
		seen:      l.sum,
	}
	if err := r.start(l); err != nil {
		return errors.Join(err, recorder.Close(), e.Close())
	}

	err = r.serve(ctx, hangup)
	return errors.Join(err, r.Close(), recorder.Close(), t.Stop(), e.Close())
}

// decisions says where the configuration wants decisions to be written.
func (l *Loaded) decisions(log *slog.Logger) decisions.Config {
	return decisions.Config{
		To:       l.Config.Decisions.To,
		File:     l.Config.DecisionsFile(),
		MaxBytes: int64(l.Config.Decisions.MaxBytes),
		Keep:     l.Config.Decisions.Keep,
		Meter:    l.telemetry.Meter,
		Log:      log,
	}
}

func newLogger(c config.Log, w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		return nil, fmt.Errorf("log level: %w", err)
	}

	options := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return slog.New(slog.NewTextHandler(w, options)), nil
}

// lostLines is the log line about lines that could not be written.
func lostLines(c config.Log, lost int) []byte {
	var line bytes.Buffer
	if log, err := newLogger(c, &line); err == nil {
		log.Error("log lines were lost: standard error was not read", "lines", lost)
	}
	return line.Bytes()
}

// serve answers on both ports until ctx ends, then drains.
func (r *reloader) serve(ctx context.Context, hangup <-chan os.Signal) error {
	c := r.current().Config
	pullPort, adminPort, err := listen(ctx, c)
	if err != nil {
		return err
	}
	pulls, admin := newServer(r.handler, r.log), newServer(adminHandler(r), r.log)

	group, groupCtx := errgroup.WithContext(ctx)
	if err := r.interceptor(groupCtx, group, pullPort, adminPort); err != nil {
		return errors.Join(err, pullPort.Close(), adminPort.Close())
	}
	group.Go(func() error { return r.servePulls(pulls, pullPort, c.TLS) })
	group.Go(func() error { return ended(admin.Serve(adminPort)) })
	group.Go(func() error { return r.watch(groupCtx, hangup) })
	group.Go(func() error { return r.engine.trust.Run(groupCtx) })
	group.Go(func() error { return r.fetchKeys(groupCtx) })
	group.Go(func() error {
		<-groupCtx.Done()
		r.draining.Store(true)
		drain(context.WithoutCancel(ctx), pulls, r.current().Config.Drain, r.log)
		return admin.Close() // last: probes see the drain
	})

	r.log.Info(
		"pullgate is serving",
		"listen", pullPort.Addr().String(),
		"admin", adminPort.Addr().String(),
		"upstreams", len(c.Upstreams),
		"policies", len(r.current().Policies.Policies()),
		"version", version.String(),
		"pid", os.Getpid(),
	)
	// The warnings come after that line: a reader who starts at the top sees them below.
	group.Go(func() error { return r.remind(groupCtx) })
	return group.Wait()
}

// listen opens the port for pulls and the one for the admin.
func listen(ctx context.Context, c *config.Config) (pulls, admin net.Listener, err error) {
	var open net.ListenConfig

	pulls, err = open.Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return nil, nil, fmt.Errorf("listen for pulls: %w", err)
	}

	admin, err = open.Listen(ctx, "tcp", c.Admin.Listen)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("listen for admin: %w", err), pulls.Close())
	}
	return pulls, admin, nil
}

func (r *reloader) servePulls(s *http.Server, port net.Listener, c config.TLS) error {
	port = clients.Listen(port, func() clients.Proxies { return r.current().proxies() })
	if c.CertFile == "" {
		return ended(s.Serve(port))
	}

	s.TLSConfig = r.tlsConfig()
	return ended(s.ServeTLS(port, "", ""))
}

// drain lets running pulls finish, for a while.
func drain(ctx context.Context, s *http.Server, limit time.Duration, log *slog.Logger) {
	log.Info("draining", "for", limit.String())
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()

	if err := s.Shutdown(ctx); err != nil {
		log.Warn("pulls were cut: they did not finish within the drain time", "drain", limit.String())
		_ = s.Close() // the connections that are left
	}
}

// newServer bounds what a client may hold on to. The write timeout is for a
// verdict and the client's taking of the answer; a blob's stream moves it on with
// every write.
func newServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		WriteTimeout:      2 * time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

func ended(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
