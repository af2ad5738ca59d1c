package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pullgate/pullgate/cmd/pullgate/server"
	"github.com/pullgate/pullgate/cmd/pullgate/telemetry"
)

func serveCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "serve --config FILE",
		Short: "Run the gate",
		Long: `serve answers pulls on the configured port until it gets SIGTERM or an interrupt;
then running pulls have the configured drain time to finish. A second interrupt
ends it at once.

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
			hangup := make(chan os.Signal, 1)
			signal.Notify(hangup, syscall.SIGHUP) // before all else: its default ends the process
			defer signal.Stop(hangup)

			sdk, err := telemetry.Start(cmd.Context())
			if err != nil {
				return err
			}
			l, problems := server.Load(file, os.Environ(), sdk)
			if len(problems) > 0 {
				return refuse(cmd.ErrOrStderr(), problems)
			}

			return server.Serve(cmd.Context(), l, cmd.ErrOrStderr(), hangup)
		},
	}
	configFlag(cmd, &file)
	return cmd
}
