package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pullgate/pullgate/cmd/pullgate/node"
	"github.com/pullgate/pullgate/cmd/pullgate/show"
)

func nodeConfigCommand() *cobra.Command {
	var wish node.Wish
	var login, dir string
	cmd := &cobra.Command{
		Use:   "node-config RUNTIME --gate URL",
		Short: "Print the files that make a runtime pull through the gate, and nowhere else",
		Long: `node-config prints the files, with their paths, that hold a runtime to the gate:
a pull ends when the gate refuses or is down. It says why each looks as it does,
and where a runtime cannot be held by its configuration, what holds it instead.

RUNTIME is one of: ` + strings.Join(node.SetupNames(), ", ") + `.

Whether a node really is held, ` + "`pullgate doctor`" + ` finds out.`,
		Example: "  pullgate node-config containerd --version 1.6 --gate http://127.0.0.1:5000 --upstream ghcr.io\n" +
			"  pullgate node-config podman --gate https://gate.example:5000 --ca /etc/pullgate/ca.pem --write /",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeFirst(node.SetupNames()),
		RunE: func(cmd *cobra.Command, args []string) error {
			find := node.FindSetup
			if wish.Intercept {
				find = node.FindInterception
			}
			setupFor, err := find(args[0])
			if err != nil {
				return err
			}
			if wish.Identity.Login, err = readLogin(login); err != nil {
				return err
			}
			plan, err := node.NewPlan(wish)
			if err != nil {
				return err
			}
			setup, err := setupFor(plan)
			if err != nil {
				return err
			}

			if dir == "" {
				return printSetup(cmd.OutOrStdout(), setup, dir)
			}
			written, err := setup.Write(dir)
			for _, name := range written {
				fmt.Fprintf(cmd.ErrOrStderr(), "wrote %s\n", name)
			}
			if err != nil {
				return err
			}
			if left := len(setup.Files) - len(written); left > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "left alone what is there already: %s\n", show.Counted(left, "file"))
			}
			return printSetup(cmd.OutOrStdout(), setup, dir)
		},
	}

	f := cmd.Flags()
	f.StringVar(&wish.Gate, "gate", "", "the gate's `URL` as the node reaches it, e.g. http://127.0.0.1:5000")
	f.StringSliceVar(&wish.Upstreams, "upstream", []string{"docker.io"},
		"a registry `HOST` whose images go through the gate; may be repeated")
	f.StringVar(&wish.CA, "ca", "", "the `FILE` on the node with the certificate authority of an https gate")
	f.StringVar(&wish.Identity.Cert, "cert", "", "the `FILE` on the node with the certificate it shows to the gate")
	f.StringVar(&wish.Identity.Key, "key", "", "the `FILE` on the node with that certificate's key")
	f.StringVar(&login, "login", "",
		"a `FILE` here with USER:PASSWORD, which the node shows to the gate; a token is a password")
	f.BoolVar(&wish.Intercept, "intercept", false,
		"the gate is the runtime's proxy: --gate is its intercept.listen, --ca what \"pullgate ca\" has made; "+
			"RUNTIME may be nftables too")
	f.StringSliceVar(&wish.Addresses, "address", nil, "with nftables: a `NETWORK` of registries; may be repeated")
	f.IntVar(&wish.TLSPort, "tls-port", 0, "with nftables: the `PORT` of the gate's intercept.tlsListen on the node")
	f.StringVar(&wish.GateUser, "gate-user", "pullgate", "with nftables: the `USER` as which the gate runs on the node")
	f.StringVar(&wish.Version, "version", "",
		"the runtime's `VERSION`, where it matters: containerd 1.6, 1.7 or 2; docker 29")
	f.StringVar(
		&dir,
		"write",
		"",
		"also write the files below `DIR`; files that say something else are left alone; / needs root",
	)
	return cmd
}

// readLogin reads USER:PASSWORD; without a file it is empty.
func readLogin(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("--login: %w", err)
	}
	login := strings.TrimRight(string(text), "\r\n")
	if login == "" {
		return "", fmt.Errorf("--login: %s is empty; it holds USER:PASSWORD", file)
	}
	return login, nil
}

func printSetup(w io.Writer, s node.Setup, dir string) error {
	var b strings.Builder
	for _, f := range s.Files {
		fmt.Fprintf(&b, "==> %s\n%s\n", filepath.Join(dir, f.Path), f.Text)
	}
	for _, n := range s.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}

	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}
