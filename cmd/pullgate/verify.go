package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pullgate/pullgate/cmd/pullgate/exit"
	"github.com/pullgate/pullgate/cmd/pullgate/imagename"
	"github.com/pullgate/pullgate/cmd/pullgate/recording"
	"github.com/pullgate/pullgate/cmd/pullgate/server"
	"github.com/pullgate/pullgate/cmd/pullgate/telemetry"
	"github.com/pullgate/pullgate/cmd/pullgate/verdict"
	"github.com/pullgate/pullgate/policy"
)

// verifyFlags are the flags of verify.
type verifyFlags struct {
	config, key string // one of them
	plain       bool
	record      string
	client      string
	asJSON      bool
}

func verifyCommand() *cobra.Command {
	var flags verifyFlags
	cmd := &cobra.Command{
		Use:   "verify IMAGE [--config FILE | --key FILE]",
		Short: "Say what the gate would decide about an image, and why",
		Long: `verify asks the registry itself, finds the image's signatures and decides with the
very code that serve runs. It uses the upstreams and policies of --config, which
is pullgate.yaml in this folder unless it is given; with --key it asks for a
signature by that public key (cosign.pub), whatever the policies say.

It exits 0 when the image would be admitted, 1 when it would be refused, 2 when
that could not be told.`,
		Example: "  pullgate verify ghcr.io/acme/app:v1 --key cosign.pub\n" +
			"  pullgate verify ghcr.io/acme/app:v1 --config pullgate.yaml --json",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeImages,
		RunE:              func(cmd *cobra.Command, args []string) error { return verifyImage(cmd, args[0], flags) },
	}

	f := cmd.Flags()
	f.StringVarP(&flags.config, "config", "c", "", "the configuration `FILE` (default \"pullgate.yaml\")")
	f.StringVar(&flags.key, "key", "", "a public key `FILE` in PEM")
	f.BoolVar(
		&flags.plain,
		"plain-http",
		false,
		"with --key: speak http to the registry; on this machine that is found out",
	)
	const recordUsage = "write what the registry answered into `FILE`, for the cases of pullgate test"
	f.StringVar(&flags.record, "record", "", recordUsage)
	f.StringVar(&flags.client, "client", "", "who asks: `NAME` with its kind, as in policies, or an address")
	f.BoolVar(&flags.asJSON, "json", false, "print the verdict as JSON")
	return cmd
}

func verifyImage(cmd *cobra.Command, name string, flags verifyFlags) (err error) {
	switch {
	case flags.config != "" && flags.key != "":
		return errors.New("give --config or --key, not both")
	case flags.key != "":
		if name, err = pastGate(cmd, name); err != nil {
			return err
		}
	case flags.config == "":
		flags.config = usualConfig
		if _, err := os.Stat(usualConfig); err != nil {
			return fmt.Errorf("there is no %s here: give --config FILE or --key FILE", usualConfig)
		}
	}
	image, err := imagename.Parse(name)
	if err != nil {
		return err
	}
	var client policy.Client
	if flags.client != "" {
		if client, err = policy.ParseClient(flags.client); err != nil {
			return fmt.Errorf("--client: %w", err)
		}
	}
	dir, err := os.MkdirTemp("", "pullgate-verify-")
	if err != nil {
		return fmt.Errorf("make a folder for the state: %w", err)
	}
	defer os.RemoveAll(dir)

	l, err := loadForVerify(cmd, dir, image, flags)
	if err != nil {
		return err
	}
	image = l.Config.Image(image)
	record := func() error { return nil }
	if flags.record != "" {
		into := recording.New()
		l = l.Through(into.Recorder)
		record = func() error { return into.Write(flags.record) }
	}

	v, err := verdict.Of(cmd.Context(), l, filepath.Join(dir, "state"), image, client)
	if err != nil {
		return fmt.Errorf("could not tell about %s: %w", image.Repository, err)
	}
	defer func() { err = errors.Join(err, record()) }()

	policies := l.Policies
	if flags.key != "" {
		policies = nil // nobody has written where they stand
	}
	if flags.asJSON {
		err = verdict.JSON(cmd.OutOrStdout(), v)
	} else {
		_, err = io.WriteString(cmd.OutOrStdout(), verdict.Text(v, policies))
	}
	if err != nil {
		return fmt.Errorf("print the verdict: %w", err)
	}
	if !v.Admitted() {
		return exit.With(exit.Denied, errors.New("refused"))
	}
	return nil
}

// loadForVerify loads the configuration that --config names, or makes one in dir
// for --key, over which the environment does not lie. Nobody has written that one,
// so that no problem names it.
func loadForVerify(cmd *cobra.Command, dir string, image policy.Image, flags verifyFlags) (*server.Loaded, error) {
	if flags.key == "" {
		return load(cmd, flags.config)
	}

	url := registryURL(cmd.Context(), image.Host)
	if flags.plain {
		url = "http://" + image.Host
	}
	file, err := verdict.KeyConfig(dir, flags.key, image.Repository, url)
	if err != nil {
		return nil, err
	}

	l, problems := server.Load(file, nil, telemetry.None())
	var failed error
	for _, p := range problems {
		_, says, ok := strings.Cut(p.Message, "authority 1: ")
		if !ok {
			says = p.Message
		}
		failed = errors.Join(failed, errors.New(says))
	}
	if failed != nil {
		return nil, fmt.Errorf("--key %s: %w", flags.key, failed)
	}
	return l, nil
}
