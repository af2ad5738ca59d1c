// Package sigstore runs a whole Sigstore on loopback, for tests and for making
// fixtures: real fulcio, rekor-tiles and timestamp-server, which .ci/install
// brings, and in process what cannot be had without a database or the internet:
// the issuers of identity tokens, a CT log, a Rekor with the first API, and
// GitHub's own Fulcio and timestamps. Nothing it does leaves the machine.
package sigstore

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Needs are the programs that must be in PATH, with those that sign.
var Needs = []string{"fulcio", "rekor-tiles", "timestamp-server", "cosign", "cosign-v2"}

// Stack is a running Sigstore. Its methods may be called concurrently, Close once.
type Stack struct {
	Dir string // everything it has written, also its logs

	// URLs of the servers.
	Fulcio       string
	FulcioNoCT   string // the same authority, but its certificates bear no SCT
	FulcioGitHub string // another authority without a CT log, as GitHub has for private repositories
	RekorV1      string
	RekorV2      string
	TSA          string
	TSAGitHub    string
	TSAForeign   string // in no trusted root

	// Files: the trusted_root.json of the stack, and one shaped as GitHub's,
	// without logs of any kind.
	Root, RootGitHub string

	issuer  *issuer
	ctLog   *ctLog
	rekorV1 *rekorV1
	rekorV2 ed25519.PublicKey

	ca, caGitHub            *Authority
	tsa, tsaGitHub, foreign *timestamper

	running context.Context // of the processes
	kill    context.CancelFunc
	mu      sync.Mutex
	stop    []func() error
}

// Start brings the stack up below dir, which must exist, and waits until each
// part answers: about a second.
func Start(dir string) (s *Stack, err error) {
	s = &Stack{Dir: dir}
	s.running, s.kill = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
			s = nil
		}
	}()
	if err := s.generate(); err != nil {
		return s, fmt.Errorf("make the stack's keys: %w", err)
	}
	if err := s.serveAll(); err != nil {
		return s, err
	}
	if err := s.startAll(); err != nil {
		return s, err
	}
	return s, s.writeRoots()
}

// Close ends every server of the stack. Its files stay.
func (s *Stack) Close() error {
	s.kill()
	var errs []error
	for _, stop := range s.stop {
		errs = append(errs, stop())
	}
	return errors.Join(errs...)
}

func (s *Stack) atClose(f func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop = append(s.stop, f)
}

func (s *Stack) generate() (err error) {
	if s.issuer, err = newIssuer(); err != nil {
		return err
	}
	if s.ctLog, err = newCTLog(); err != nil {
		return err
	}
	if s.rekorV1, err = newRekorV1("rekor1.acme.example"); err != nil {
		return err
	}
	if s.ca, err = NewAuthority("acme.example", x509.ExtKeyUsageCodeSigning); err != nil {
		return err
	}
	if s.caGitHub, err = NewAuthority("GitHub, Inc.", x509.ExtKeyUsageCodeSigning); err != nil {
		return err
	}
	if s.tsa, err = newTimestamper("acme.example"); err != nil {
		return err
	}
	if s.tsaGitHub, err = newTimestamper("GitHub, Inc."); err != nil {
		return err
	}
	if s.foreign, err = newTimestamper("foreign.example"); err != nil {
		return err
	}
	return s.writeKeys()
}

// writeKeys writes what several programs must know.
func (s *Stack) writeKeys() error {
	ct, err := PublicKey(&s.ctLog.key.PublicKey)
	if err != nil {
		return err
	}
	rekor, err := PublicKey(&s.rekorV1.key.PublicKey)
	if err != nil {
		return err
	}
	return s.write(map[string][]byte{"ctlog.pub": ct, "rekor1.pub": rekor, "issuers.pem": s.issuer.ca})
}

// serveAll serves what is in process.
func (s *Stack) serveAll() error {
	for _, h := range []struct {
		url     *string
		handler http.Handler
	}{
		{&s.RekorV1, s.rekorV1.handler()}, {&s.TSAGitHub, s.tsaGitHub}, {&s.TSAForeign, s.foreign},
	} {
		var err error
		if *h.url, err = s.serve(h.handler); err != nil {
			return err
		}
	}
	return s.serveOn(s.issuer.tunnel, s.issuer.discovery())
}

func (s *Stack) serve(h http.Handler) (url string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return "http://" + l.Addr().String(), s.serveOn(l, h)
}

func (s *Stack) serveOn(l net.Listener, h http.Handler) error {
	file, err := os.OpenFile(s.file("in-process.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(file, "", log.LstdFlags)}
	go func() { _ = server.Serve(l) }() // it ends when Close closes it
	s.atClose(func() error { return errors.Join(server.Close(), file.Close()) })
	return nil
}

// startAll starts the real servers, side by side.
func (s *Stack) startAll() error {
	ct, err := s.serve(s.ctLog)
	if err != nil {
		return err
	}
	proxy, err := s.serve(s.issuer)
	if err != nil {
		return err
	}
	started := make(chan error)
	starts := []func() error{
		func() (err error) { s.Fulcio, err = s.startFulcio("fulcio", s.ca, ct, proxy); return err },
		func() (err error) { s.FulcioNoCT, err = s.startFulcio("fulcio-no-ct", s.ca, "", proxy); return err },
		func() (err error) {
			s.FulcioGitHub, err = s.startFulcio("fulcio-github", s.caGitHub, "", proxy)
			return err
		},
		func() (err error) { s.RekorV2, err = s.startRekorTiles(); return err },
		func() (err error) { s.TSA, err = s.startTimestampServer(); return err },
	}
	for _, start := range starts {
		go func() { started <- start() }()
	}
	var errs []error
	for range starts {
		errs = append(errs, <-started)
	}
	return errors.Join(errs...)
}

func (s *Stack) startFulcio(name string, ca *Authority, ct, proxy string) (string, error) {
	key, err := PrivateKey(ca.key)
	if err != nil {
		return "", err
	}
	config := "oidc-issuers:\n"
	for url, kind := range map[string]string{Accounts: "email", Actions: "github-workflow", GitLab: "gitlab-pipeline"} {
		config += fmt.Sprintf("  %s: {issuer-url: %s, client-id: sigstore, type: %s}\n", url, url, kind)
	}
	if err := s.write(map[string][]byte{
		name + ".yaml": []byte(config),
		name + ".key":  key,
		name + ".pem":  Chain(ca.Intermediate, ca.Root),
	}); err != nil {
		return "", err
	}
	ports, err := freePorts(3)
	if err != nil {
		return "", err
	}
	url := "http://127.0.0.1:" + ports[0]
	// The password opens no lock, for the key has none, but Fulcio insists on one.
	return url, s.start(
		name,
		url+"/api/v2/trustBundle",
		[]string{
			"HTTPS_PROXY=" + proxy,
			"SSL_CERT_FILE=" + s.file("issuers.pem"),
		},
		"fulcio",
		"serve",
		"--ca",
		"fileca",
		"--fileca-cert",
		s.file(name+".pem"),
		"--fileca-key",
		s.file(name+".key"),
		"--fileca-key-passwd",
		"none",
		"--fileca-watch=false",
		"--config-path",
		s.file(name+".yaml"),
		"--ct-log-url",
		ct,
		"--ct-log-public-key-path",
		s.file("ctlog.pub"),
		"--host",
		"127.0.0.1",
		"--port",
		ports[0],
		"--grpc-host",
		"127.0.0.1",
		"--grpc-port",
		ports[1],
		"--metrics-port",
		ports[2],
		"--legacy-unix-domain-socket",
		s.file(name+".sock"),
	)
}

func (s *Stack) startRekorTiles() (string, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	s.rekorV2 = public
	key, err := PrivateKey(private)
	if err != nil {
		return "", err
	}
	if err := s.write(map[string][]byte{"rekor-tiles.key": key}); err != nil {
		return "", err
	}
	if err := os.MkdirAll(s.file("rekor-tiles"), 0o700); err != nil {
		return "", err
	}
	ports, err := freePorts(3)
	if err != nil {
		return "", err
	}
	url := "http://127.0.0.1:" + ports[0]
	return url, s.start(
		"rekor-tiles",
		url+"/healthz",
		nil,
		"rekor-tiles",
		"serve",
		"--hostname",
		rekorV2Origin,
		"--http-address",
		"127.0.0.1",
		"--http-port",
		ports[0],
		"--grpc-address",
		"127.0.0.1",
		"--grpc-port",
		ports[1],
		"--http-metrics-port",
		ports[2],
		"--storage-dir",
		s.file("rekor-tiles"),
		"--signer-filepath",
		s.file("rekor-tiles.key"),
		"--checkpoint-interval",
		"1s",
	)
}

func (s *Stack) startTimestampServer() (string, error) {
	key, err := PrivateKey(s.tsa.key)
	if err != nil {
		return "", err
	}
	if err := s.write(map[string][]byte{"tsa.key": key, "tsa.pem": s.tsa.chain()}); err != nil {
		return "", err
	}
	ports, err := freePorts(1)
	if err != nil {
		return "", err
	}
	url := "http://127.0.0.1:" + ports[0] + "/api/v1/timestamp"
	return url, s.start(
		"timestamp-server",
		url+"/certchain",
		nil,
		"timestamp-server",
		"serve",
		"--host",
		"127.0.0.1",
		"--port",
		ports[0],
		"--timestamp-signer",
		"file",
		"--file-signer-key-path",
		s.file("tsa.key"),
		"--certificate-chain-path",
		s.file("tsa.pem"),
		"--disable-ntp-monitoring",
	)
}

func (s *Stack) file(name string) string { return filepath.Join(s.Dir, name) }

func (s *Stack) write(files map[string][]byte) error {
	for name, content := range files {
		if err := os.WriteFile(s.file(name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}
