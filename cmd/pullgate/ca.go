package main

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pullgate/pullgate/cmd/pullgate/config"
	"github.com/pullgate/pullgate/proxy/intercept"
)

func caCommand() *cobra.Command {
	c := caFiles{}
	var configFile string
	var renew, rotate bool
	cmd := &cobra.Command{
		Use:   "ca --config FILE",
		Short: "Make the certificate authority by which nodes trust an intercepting gate",
		Long: `ca makes the certificate authority that the gate issues certificates by when it
intercepts (intercept.caCertFile and caKeyFile). It is good for the hosts of the
configuration's upstreams and for nothing else: whoever stole its key could be
no other server to the nodes that trust it.

Nodes get the certificate, and never the key. Before it ends:
  pullgate ca --renew    a certificate for the same key: also after upstreams changed
  pullgate ca --rotate   another key, in FILE.next, and its certificate beside the
                         old one. When all nodes have the file, move FILE.next to FILE.
Both are written into the same files, and the gate reads them again by itself.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if renew && rotate {
				return errors.New("--renew keeps the key and --rotate makes another: choose one")
			}
			if c.life < 24*time.Hour {
				return fmt.Errorf("--valid %s is too short: leaves alone last a day", c.life)
			}
			names, err := interceptedNames(configFile)
			if err != nil {
				return err
			}

			var made *x509.Certificate
			switch {
			case renew:
				made, err = c.renew(names)
			case rotate:
				made, err = c.rotate(names)
			default:
				made, err = c.create(names)
			}
			if err != nil {
				return err
			}
			const message = "%s is good for %s until %s\n" +
				"give it to nodes (`pullgate node-config RUNTIME --intercept` says where it goes);\n" +
				"keep %s with the gate\n"
			_, err = fmt.Fprintf(cmd.OutOrStdout(), message, c.cert, strings.Join(made.PermittedDNSDomains, ", "),
				made.NotAfter.UTC().Format(time.DateOnly), c.key)
			return err
		},
	}

	f := cmd.Flags()
	f.StringVarP(&configFile, "config", "c", "pullgate.yaml", "the configuration `FILE` with the upstreams")
	f.StringVar(&c.cert, "cert", "ca.crt", "the `FILE` for the certificate")
	f.StringVar(&c.key, "key", "ca.key", "the `FILE` for its key")
	f.DurationVar(&c.life, "valid", 2*365*24*time.Hour, "how long the certificate is good")
	f.BoolVar(&renew, "renew", false, "make another certificate for the key that is there")
	f.BoolVar(&rotate, "rotate", false, "make another key beside the one that is there")
	return cmd
}

// interceptedNames are the names that upstreams are asked by.
func interceptedNames(file string) ([]string, error) {
	c, problems := config.Read(file, os.Environ())
	if c == nil {
		return nil, fmt.Errorf("read the upstreams: %s", problems[0])
	}

	var names []string
	for _, u := range c.Upstreams {
		own, err := u.InterceptedNames()
		if err != nil {
			return nil, fmt.Errorf("upstream %s: %w", u.Host, err)
		}
		names = append(names, own...)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s has no upstream to make a certificate authority for", file)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// caFiles are where an authority is kept.
type caFiles struct {
	cert, key string
	life      time.Duration
}

func (c caFiles) create(names []string) (*x509.Certificate, error) {
	for _, file := range []string{c.cert, c.key} {
		if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s is there already: --renew keeps its key, --rotate makes another beside it", file)
		}
	}
	key, err := writeCAKey(c.key)
	if err != nil {
		return nil, err
	}
	return c.certify(names, key, nil)
}

// renew replaces the certificate of the key that is there.
func (c caFiles) renew(names []string) (*x509.Certificate, error) {
	bundle, key, err := c.read()
	if err != nil {
		return nil, err
	}
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	others := slices.DeleteFunc(bundle, func(old *x509.Certificate) bool { return ok && public.Equal(old.PublicKey) })
	return c.certify(names, key, others)
}

// rotate makes the next key.
func (c caFiles) rotate(names []string) (*x509.Certificate, error) {
	bundle, _, err := c.read()
	if err != nil {
		return nil, err
	}
	next := c.key + ".next"
	if _, err := os.Lstat(next); !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is there already: move it to %s when all nodes have %s", next, c.key, c.cert)
	}
	key, err := writeCAKey(next)
	if err != nil {
		return nil, err
	}
	return c.certify(names, key, bundle)
}

func (c caFiles) read() ([]*x509.Certificate, crypto.Signer, error) {
	text, err := os.ReadFile(c.cert)
	if err != nil {
		return nil, nil, err
	}
	bundle, err := intercept.ParseCertificates(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", c.cert, err)
	}
	text, err = os.ReadFile(c.key)
	if err != nil {
		return nil, nil, err
	}
	key, err := intercept.ParseKey(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", c.key, err)
	}
	return bundle, key, nil
}

// certify writes a certificate for key, and others that have not ended behind it,
// in one step: the gate may be reading.
func (c caFiles) certify(
	names []string,
	key crypto.Signer,
	others []*x509.Certificate,
) (*x509.Certificate, error) {
	now := time.Now()
	made, err := intercept.MakeAuthority(names, key, now, now.Add(c.life))
	if err != nil {
		return nil, err
	}

	text := encodeCertificate(made)
	for _, other := range others {
		if now.Before(other.NotAfter) {
			text = append(text, encodeCertificate(other)...)
		}
	}
	temporary := c.cert + ".new"
	if err := os.WriteFile(temporary, text, 0o644); err != nil {
		return nil, err
	}
	return made, os.Rename(temporary, c.cert)
}

func encodeCertificate(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// writeCAKey makes a key that is there only when it is whole, and for its owner
// alone.
func writeCAKey(file string) (crypto.Signer, error) {
	key, err := intercept.NewKey()
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	return key, errors.Join(err, f.Sync(), f.Close())
}
