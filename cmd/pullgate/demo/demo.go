// Package demo shows the gate at work on this machine alone: a registry with
// signed and unsigned images, the gate before it, and a pull of each image.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log" //nolint:depguard // go-containerregistry's registry takes one
	"net"
	"net/http"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/pullgate/pullgate/cmd/pullgate/server"
	"github.com/pullgate/pullgate/cmd/pullgate/telemetry"
)

// The ports are preferred, so that the printed commands look the same each time;
// taken ones are replaced.
const (
	gatePort  = "5000"
	adminPort = "5001"
)

const (
	startTime = 5 * time.Second       // for the gate to answer
	askEvery  = 50 * time.Millisecond // until it does
)

const commands = `Try it yourself; the gate stays up until you press Ctrl-C:

  curl -i http://%[1]s/v2/demo.example/unsigned/manifests/latest
  crane manifest %[1]s/demo.example/signed:latest
  crane pull %[1]s/demo.example/unsigned:latest /tmp/unsigned.tar
  docker pull %[1]s/demo.example/multi:latest
  docker pull %[1]s/demo.example/unsigned:latest
`

// Demo is a demonstration that can be run once.
type Demo struct {
	Out  io.Writer // what happened is told here
	Stay bool      // after the pulls, until the context ends
}

// Run starts everything, pulls each image, and fails if the gate did not decide
// as it should. Everything is on 127.0.0.1 and gone at the end.
func (d *Demo) Run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "pullgate-demo-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	upstream, stop, err := startRegistry(ctx)
	if err != nil {
		return err
	}
	defer stop()
	key, err := newKey(dir)
	if err != nil {
		return err
	}
	images, err := PushImages(ctx, upstream, key)
	if err != nil {
		return fmt.Errorf("fill the demo registry: %w", err)
	}

	gate, served, err := d.startGate(ctx, dir, upstream)
	if err != nil {
		return err
	}
	if err := d.pullAll(ctx, gate, images); err != nil {
		return err
	}

	if d.Stay {
		fmt.Fprintf(d.Out, commands, gate)
		select {
		case <-ctx.Done():
		case err := <-served:
			return err
		}
	}
	cancel()
	return <-served
}

// startRegistry starts a registry that takes pushes. stop ends it.
func startRegistry(ctx context.Context) (addr string, stop func(), err error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("start the demo registry: %w", err)
	}

	quiet := log.New(io.Discard, "", 0)
	s := &http.Server{
		Handler:           registry.New(registry.Logger(quiet), registry.WithReferrersSupport(true)),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          quiet,
	}
	go s.Serve(listener) //nolint:errcheck // ends with Close

	return listener.Addr().String(), func() { _ = s.Close() }, nil
}

// startGate starts the gate before the registry upstream, and returns its address
// and what Serve will have returned.
func (d *Demo) startGate(ctx context.Context, dir, upstream string) (addr string, served chan error, err error) {
	addr, err = FreeAddr(ctx, gatePort)
	if err != nil {
		return "", nil, err
	}
	admin, err := FreeAddr(ctx, adminPort)
	if err != nil {
		return "", nil, err
	}

	file, err := writeConfig(dir, upstream, addr, admin)
	if err != nil {
		return "", nil, err
	}
	l, problems := server.Load(file, nil, telemetry.None())
	if len(problems) > 0 {
		return "", nil, fmt.Errorf("the demo's own configuration is refused: %v", problems)
	}

	served = make(chan error, 1)
	go func() { served <- server.Serve(ctx, l, io.Discard, nil) }()
	return addr, served, WaitFor(ctx, "http://"+addr+"/v2/", served)
}

// FreeAddr returns 127.0.0.1 with the wanted port, or with any when that one is
// taken.
func FreeAddr(ctx context.Context, port string) (string, error) {
	var open net.ListenConfig

	l, err := open.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		l, err = open.Listen(ctx, "tcp", "127.0.0.1:0")
	}
	if err != nil {
		return "", fmt.Errorf("find a port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

// WaitFor returns when url answers, or when the gate has ended instead.
func WaitFor(ctx context.Context, url string, served <-chan error) error {
	for range startTime / askEvery {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			return resp.Body.Close()
		}

		select {
		case err := <-served:
			return errors.Join(errors.New("the gate did not start"), err)
		case <-time.After(askEvery):
		}
	}
	return fmt.Errorf("the gate did not answer within %s", startTime)
}
