package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/pullgate/pullgate/cmd/pullgate/telemetry"
	"github.com/pullgate/pullgate/cmd/pullgate/version"
	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy"
	"github.com/pullgate/pullgate/verify/trust"
)

func serveCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "serve --config FILE",
		Short: "Run the gate",
		Long: `serve answers pulls on the configured port until it gets SIGTERM or an interrupt;
then running pulls have the configured drain time to finish.

SIGHUP, and any change of the configuration, its policies, keys or certificates,
loads them again; SIGHUP also asks TUF mirrors and key services at once. A file
with a problem is refused whole: the old configuration stays, the log lists every
problem, and /readyz says so.

Health, readiness, metrics and decisions are on a port of their own
(admin.listen): /healthz, /readyz, /metrics, /decisions. Every decision is one
line of the log, with the image, the client, the policy, the outcome, its reasons
and a decision id. The same id is in the answer's Pullgate-Decision header,
because some runtimes show their user nothing but "403 Forbidden"; pullgate
explain ID says the rest, from the decisions kept beside the state.

Scalars of the configuration can be set by the environment: PULLGATE_LISTEN,
PULLGATE_MODE, PULLGATE_LIMITS_VERIFYTIMEOUT and so on. Traces and pushed
metrics follow the OTEL_* variables.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			hup := make(chan os.Signal, 1)
			signal.Notify(hup, syscall.SIGHUP) // before all else: its default ends the process
			defer signal.Stop(hup)
			telemetry, err := telemetry.Start(cmd.Context())
			if err != nil {
				return err
			}
			l, problems := load(file, telemetry)
			if len(problems) > 0 {
				return report(cmd.ErrOrStderr(), problems)
			}
			return serve(cmd.Context(), l, telemetry, cmd.ErrOrStderr(), hup)
		},
	}
	configFlag(cmd, &file)
	return cmd
}

// serve runs one gate until ctx ends.
func serve(ctx context.Context, l *loaded, t *telemetry.SDK, stderr logWriter, hup <-chan os.Signal) error {
	buffer := newLogBuffer(stderr)
	defer buffer.Close()
	log, err := l.logger(buffer)
	if err != nil {
		return err
	}
	// net/http's client prints what a registry sends unasked, through the standard logger.
	slog.SetDefault(log)
	e, err := l.engine(l.config.path(l.config.State.Path), trust.Config{Dir: l.trustDir(), Log: log, Meter: t.Meter})
	if err != nil {
		return err
	}
	first, err := l.gate(e)
	if err != nil {
		return errors.Join(err, e.Close())
	}
	record, err := l.startDecisions(ctx, log)
	if err != nil {
		return errors.Join(err, e.Close())
	}
	handler, err := proxy.New(proxy.Config{
		Log:       log,
		Tracer:    t.Tracer,
		Meter:     t.Meter,
		Decisions: record.taker(),
	}, l.snapshot(first))
	if err != nil {
		return errors.Join(err, record.Close(), e.Close())
	}
	r, err := newReloader(l, e, handler, t, log)
	if err != nil {
		return errors.Join(err, record.Close(), e.Close())
	}
	r.decisions = record
	err = listen(ctx, r, handler, hup)
	return errors.Join(err, r.Close(), record.Close(), t.Stop(), e.Close())
}

// listen answers on both ports until ctx ends, then drains.
func listen(ctx context.Context, r *reloader, pulls http.Handler, hup <-chan os.Signal) error {
	c, log := r.current().config, r.log
	var open net.ListenConfig
	pullPort, err := open.Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("listen for pulls: %w", err)
	}
	adminPort, err := open.Listen(ctx, "tcp", c.Admin.Listen)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for admin: %w", err), pullPort.Close())
	}
	pullServer, adminServer := server(pulls, log), server(adminHandler(r), log)
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if c.TLS.CertFile == "" {
			return ended(pullServer.Serve(pullPort))
		}
		pullServer.TLSConfig = &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return r.cert.Load(), nil },
		}
		return ended(pullServer.ServeTLS(pullPort, "", ""))
	})
	group.Go(func() error { return ended(adminServer.Serve(adminPort)) })
	group.Go(func() error { return r.watch(groupCtx, hup) })
	group.Go(func() error { return r.engine.trust.Run(groupCtx) })
	group.Go(func() error {
		<-groupCtx.Done()
		r.draining.Store(true)
		drain(context.WithoutCancel(ctx), pullServer, r.current().config.Drain, log)
		return adminServer.Close() // last: probes see the drain
	})
	log.Info(
		"pullgate is serving",
		"listen",
		pullPort.Addr().String(),
		"admin",
		adminPort.Addr().String(),
		"upstreams",
		len(c.Upstreams),
		"policies",
		len(r.current().policies.Policies()),
		"version",
		version.String(),
		"pid",
		os.Getpid(),
	)
	group.Go(
		func() error { return r.remind(groupCtx) },
	) // after that line: whoever reads the log from its start sees it below
	return group.Wait()
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

// remindEvery is short enough that nobody who looks at the log misses it.
const remindEvery = time.Minute

// remind says what is not enforced by the configuration in force, at once and
// every minute, until ctx ends.
func (r *reloader) remind(ctx context.Context) error {
	again := time.NewTicker(remindEvery)
	defer again.Stop()
	for {
		r.current().warn(r.log)
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		}
	}
}

// warn says what is not enforced.
func (l *loaded) warn(log *slog.Logger) {
	for _, p := range l.policies.Policies() {
		if p.Mode == policy.Warn && (p.Expires.IsZero() || time.Now().Before(p.Expires)) {
			log.Warn("policy is in warn mode: what it refuses is admitted", "policy", p.Name, "where", p.Where.String())
		}
	}
	if l.mode == policy.Warn {
		log.Warn("the whole gate is in warn mode: nothing but `static: deny` is refused")
	}
	if l.config.DefaultAction != "deny" {
		log.Warn("images that no policy matches are admitted", "defaultAction", l.config.DefaultAction)
	}
}

// server bounds what a client may hold on to. The write timeout is for a
// verdict and the client's taking of the answer; a blob's stream moves it on
// with every write.
func server(h http.Handler, log *slog.Logger) *http.Server {
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
