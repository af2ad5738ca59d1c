package soak

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pullgate/pullgate/test/hostile"
)

// TestLongerSignatureIsNoDenial: a registry that adds bytes to a signature, or
// only to its length, has not said that there is none. The gate could not tell,
// and must not remember a denial for when the registry is well again.
func TestLongerSignatureIsNoDenial(t *testing.T) {
	w := newWorld(t, 1)
	g := startGate(t, w, strings.TrimPrefix(w.server.URL, "http://"))
	signed, attached := w.images[0], w.images[6]
	blobs := hostile.Is(hostile.Blobs)
	referrer := func(q hostile.Request) bool { return q.Kind == hostile.Manifests && q.Reference != attached.tag }
	ask := func(t *testing.T, q question) int {
		t.Helper()
		resp, err := admin.Get("http://" + g.addr + q.path())
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	for name, c := range map[string]struct {
		asked question
		trick hostile.Trick
	}{
		"a payload under the .sig tag": {
			question{o: signed.object, tag: signed.tag},
			hostile.Lengthen.At(blobs),
		},
		"the length of one": {
			question{o: signed.object, tag: signed.tag},
			hostile.TooLongLength.At(blobs),
		},
		"a referrer's payload": {
			question{o: attached.object, tag: attached.tag},
			hostile.Lengthen.At(blobs),
		},
		"a referrer's manifest": {
			question{o: attached.object, tag: attached.tag},
			hostile.Lengthen.At(referrer),
		},
		"the length of one's manifest": {
			question{o: attached.object, tag: attached.tag},
			hostile.TooLongLength.At(referrer),
		},
		"a payload, when the signature is pulled": {
			question{o: signed.object, tag: hostile.SignatureTag(signed.digest)},
			hostile.Lengthen.At(blobs),
		},
		"its length, when the signature is pulled": {
			question{o: signed.object, tag: hostile.SignatureTag(signed.digest)},
			hostile.TooLongLength.At(blobs),
		},
	} {
		t.Run(name, func(t *testing.T) {
			g.end(t, syscall.SIGTERM) // and with it what was remembered of the last case
			g.up(t)
			if !g.confirm(reloadsWithin) {
				t.Fatalf("the gate does not come back:\n%s", g.log.other())
			}
			w.registry.On(c.trick)
			if got := ask(t, c.asked); got == http.StatusForbidden {
				t.Errorf("while the registry sends too much, %s is answered %d", c.asked.path(), got)
			}
			w.registry.Off()
			if got := ask(t, c.asked); got != http.StatusOK {
				t.Errorf("when the registry is well again, %s is answered %d", c.asked.path(), got)
			}
		})
	}
}

// TestHangupWhileDraining: a SIGHUP that comes late, from a tool that rotates
// keys while the gate is being restarted, cuts no pull and changes no exit code.
func TestHangupWhileDraining(t *testing.T) {
	w := newWorld(t, 1)
	net := startNetwork(t, strings.TrimPrefix(w.server.URL, "http://"))
	g := startGate(t, w, net.addr)
	i := w.images[0]
	answered := make(chan error, 1)
	net.with(latency(time.Second)...) // of each way and chunk: the pull is under way when the gate has to go
	go func() {
		resp, err := http.Get("http://" + g.addr + question{o: i.object, tag: i.tag}.path())
		if err == nil {
			_, err = readAll(resp)
		}
		answered <- err
	}()
	for range 500 { // until the pull has reached the registry's door
		if w.open() > 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	g.signal(syscall.SIGTERM)
	for range 500 {
		if said, err := g.ready(); err == nil && strings.HasPrefix(said, "draining") {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	g.signal(syscall.SIGHUP)
	<-g.done
	if err := <-answered; err != nil {
		t.Errorf("SIGHUP while the gate drains: the pull under way broke: %v", err)
	}
	if code := g.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("SIGHUP while the gate drains: it ended with %s, not with code 0", g.cmd.ProcessState)
	}
}

// TestHangupAtTheStart: whoever asks for a reload as soon as the gate answers
// gets one.
func TestHangupAtTheStart(t *testing.T) {
	w := newWorld(t, 1)
	g := startGate(t, w, strings.TrimPrefix(w.server.URL, "http://"))
	for range 5 {
		g.end(t, syscall.SIGTERM)
		g.up(t)
		for {
			if _, err := g.inForce(); err == nil {
				break
			}
			select {
			case <-g.done:
				t.Fatalf("the gate ended:\n%s", g.log.other())
			default:
			}
		}
		g.signal(syscall.SIGHUP)
		select {
		case <-g.done:
			t.Fatalf("SIGHUP right after the first answer ended the gate: %s", g.cmd.ProcessState)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// TestReloads: the connections to a registry that an
// older configuration had opened go with it, also when pulls were under way as
// it was replaced.
func TestReloads(t *testing.T) {
	if testing.Short() {
		t.Skip("it reloads under load for seconds; run it without -short")
	}
	w := newWorld(t, 10)
	net := startNetwork(t, strings.TrimPrefix(w.server.URL, "http://"))
	net.with(latency(10 * time.Millisecond)...)
	g := startGate(t, w, net.addr)
	c := newClients(t, g, w)
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { c.run(ctx, 100) })
	const reloads = 8
	reload := func(n int) {
		g.put(t, revision{number: n, keys: "A"})
		g.signal(syscall.SIGHUP)
		if !g.confirm(reloadsWithin) {
			t.Errorf("revision %d is not in force:\n%s", n, g.log.other())
		}
	}
	for n := range reloads {
		time.Sleep(50 * time.Millisecond)
		reload(n + 1)
	}
	stop()
	all.Wait()
	under := w.open()
	reload(reloads + 1)
	// An upstream that is described by the same words is taken over, with at most
	// as many idle connections as one may keep.
	const kept = 2 * 64 // to the registry, and to where it redirects
	left := 0
	for range 30 {
		if left = w.open(); left <= kept {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("%d connections after %d reloads under load, %d when a last one found the gate idle", under, reloads, left)
	if left > kept {
		t.Errorf("%d connections are open: those of configurations that are gone were kept", left)
	}
}
