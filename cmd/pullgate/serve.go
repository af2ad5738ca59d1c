package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy"
)

func serveCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "serve --config FILE",
		Short: "Run the gate",
		Long: `serve answers pulls on the configured port until it gets SIGTERM or an interrupt;
then running pulls have the configured drain time to finish.

Health, readiness and metrics are on a port of their own (admin.listen):
/healthz, /readyz, /metrics. Every decision is one line of the log, with the
image, the client, the policy, the outcome, its reasons and a decision id. The
same id is in the answer's Pullgate-Decision header, because some runtimes show
their user nothing but "403 Forbidden".

Scalars of the configuration can be set by the environment: PULLGATE_LISTEN,
PULLGATE_MODE, PULLGATE_LIMITS_VERIFYTIMEOUT and so on.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, problems := load(file)
			if len(problems) > 0 {
				return report(cmd.ErrOrStderr(), problems)
			}
			return serve(cmd.Context(), l, cmd.ErrOrStderr())
		},
	}
	configFlag(cmd, &file)
	return cmd
}

// serve runs one gate to its end.
func serve(ctx context.Context, l *loaded, stderr logWriter) error {
	log, err := l.logger(stderr)
	if err != nil {
		return err
	}
	telemetry, err := startTelemetry(ctx)
	if err != nil {
		return err
	}
	e, err := l.engine(l.config.path(l.config.State.Path))
	if err != nil {
		return err
	}
	handler, err := proxy.New(proxy.Config{Log: log, Tracer: telemetry.tracer, Meter: telemetry.meter}, l.snapshot(e.gate))
	if err != nil {
		return errors.Join(err, e.Close())
	}
	err = listen(ctx, l, log, handler, telemetry)
	return errors.Join(err, telemetry.stop(), e.Close())
}

// listen answers on both ports until ctx ends, then drains.
func listen(ctx context.Context, l *loaded, log *slog.Logger, pulls http.Handler, t *telemetry) error {
	var open net.ListenConfig
	pullPort, err := open.Listen(ctx, "tcp", l.config.Listen)
	if err != nil {
		return fmt.Errorf("listen for pulls: %w", err)
	}
	adminPort, err := open.Listen(ctx, "tcp", l.config.Admin.Listen)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for admin: %w", err), pullPort.Close())
	}
	servers := []*http.Server{server(pulls, log), server(adminHandler(l, t), log)}
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if l.config.TLS.CertFile != "" {
			return ended(servers[0].ServeTLS(pullPort, l.config.path(l.config.TLS.CertFile), l.config.path(l.config.TLS.KeyFile)))
		}
		return ended(servers[0].Serve(pullPort))
	})
	group.Go(func() error { return ended(servers[1].Serve(adminPort)) })
	group.Go(func() error {
		<-groupCtx.Done()
		log.Info("draining", "for", l.config.Drain)
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.config.Drain)
		defer cancel()
		var failed error
		for _, s := range servers {
			if err := s.Shutdown(drain); err != nil {
				failed = errors.Join(failed, fmt.Errorf("drain: %w", err), s.Close())
			}
		}
		return failed
	})
	for _, p := range l.policies.Policies() {
		if p.Mode == policy.Warn {
			log.Warn("policy is in warn mode: what it refuses is admitted", "policy", p.Name)
		}
	}
	if l.mode == policy.Warn {
		log.Warn("the whole gate is in warn mode: nothing but `static: deny` is refused")
	}
	log.Info("pullgate is serving", "listen", pullPort.Addr().String(), "admin", adminPort.Addr().String(),
		"upstreams", len(l.upstreams), "policies", len(l.policies.Policies()), "version", version(), "pid", os.Getpid())
	return group.Wait()
}

// server bounds what a client may hold on to. There is no write timeout:
// blobs are as long as they are, and each write has a deadline of its own.
func server(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           http.MaxBytesHandler(h, 0), // no request body is read
		ReadHeaderTimeout: 10 * time.Second,
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

func adminHandler(l *loaded, t *telemetry) http.Handler {
	mux := http.NewServeMux()
	fine := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = fmt.Fprintln(w, "ok") // a prober that left needs no answer
	}
	mux.HandleFunc("GET /healthz", fine)
	mux.HandleFunc("GET /readyz", fine)
	mux.Handle("GET /metrics", t.metrics)
	return mux
}
