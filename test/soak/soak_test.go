package soak

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pullgate/pullgate/test/hostile"
)

// PULLGATE_SOAK is the default of -soak.duration, 20s without it. For hours,
// give go test a -timeout too.
var duration = flag.Duration("soak.duration", 0, "how long the soak test runs; default: PULLGATE_SOAK, else 20s")

const clientCount = 1000

func soakDuration(t *testing.T) time.Duration {
	t.Helper()
	if testing.Short() {
		t.Skip("the soak test takes a while; run it without -short")
	}
	if *duration > 0 {
		return *duration
	}
	text := os.Getenv("PULLGATE_SOAK")
	if text == "" {
		return 20 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("PULLGATE_SOAK: %v", err)
	}
	return d
}

// TestSoak: whatever happens around it, the gate serves nothing it must not,
// refuses nothing it must serve, answers at once when nothing is broken, and
// keeps nothing.
func TestSoak(t *testing.T) {
	length := soakDuration(t)
	w := newWorld(t, repositories)
	net := startNetwork(t, strings.TrimPrefix(w.server.URL, "http://"))
	g := startGate(t, w, net.addr)
	c := newClients(t, g, w)
	s := &storm{t: t, world: w, net: net, gate: g, clients: c}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	c.pause()
	defer func() {
		stop()
		c.resume()
		running.Wait()
	}()
	running.Go(func() { c.run(ctx, clientCount) })

	s.rage(length*45/100, true) // with restarts: one process after the other
	s.rage(length*15/100, false)
	before := g.settled(t, nil)
	t.Logf("the last process, warm and idle: %s; %d connections to the registry were open", before, s.leftOpen)
	s.rage(length*40/100, false)
	fits := func(n numbers) bool {
		return n.goroutines <= before.goroutines+10 && n.files <= before.files+6 && n.memory <= before.memory*1.5+48<<20
	}
	after := g.settled(t, fits)
	t.Logf(
		"after another %s, idle again: %s; %d connections to the registry were open",
		length*40/100,
		after,
		s.leftOpen,
	)
	if !fits(after) {
		t.Errorf("the gate keeps something: it had %s, and has %s", before, after)
	}
	t.Log(c)
	t.Logf(
		"%s; %d faults of the network, %d of the registry",
		&s.did,
		s.did.netFaults.Load(),
		s.did.registryFaults.Load(),
	)

	s.put(revision{keys: "A"})
	if !t.Failed() {
		if err := c.sweep(); err != nil {
			t.Error(err)
		}
	}
	if n := &c.counts; !t.Failed() && (n.pulls.Load() < 100 || n.denied.Load() < 100 || n.warned.Load() < 10) {
		t.Errorf("too little was asked for this to show anything: %s", c)
	}

	g.truth.trouble() // for good: there is no next process
	c.resume()
	time.Sleep(100 * time.Millisecond)
	began := time.Now()
	g.end(t, syscall.SIGTERM) // under load
	t.Logf("it drained in %s", time.Since(began).Round(time.Millisecond))
	c.over.Store(true)
	c.pause()
}

// storm is everything that happens to the gate.
type storm struct {
	t        *testing.T
	world    *world
	net      *network
	gate     *gate
	clients  *clients
	leftOpen int // connections to the registry when the clients had gone
	did      deeds
}

type deeds struct {
	swaps, keyFiles, broken, hangups, terms, kills, netFaults, registryFaults atomic.Int64
}

func (d *deeds) String() string {
	return fmt.Sprintf(
		"%d policies put in force, %d of them by a key file, %d broken ones refused, %d SIGHUPs, %d restarts by "+
			"SIGTERM, %d by SIGKILL",
		d.swaps.Load(),
		d.keyFiles.Load(),
		d.broken.Load(),
		d.hangups.Load(),
		d.terms.Load(),
		d.kills.Load(),
	)
}

// rage lets the clients loose for a while, and everything else with them.
// Afterwards nobody asks, nothing is broken, and the gate is alone.
func (s *storm) rage(length time.Duration, restarts bool) {
	ctx, stop := context.WithTimeout(s.t.Context(), length)
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	s.clients.resume()
	all.Go(func() { s.faults(ctx) })
	all.Go(func() { s.publisher(ctx) })
	s.operator(ctx, restarts)
	all.Wait()
	s.clients.pause()
	s.leftOpen = s.world.open()
	s.net.with()
}

// rest reports whether there is still time after a moment between least and most.
func rest(ctx context.Context, least, most time.Duration) bool {
	timer := time.NewTimer(least + rand.N(most-least))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// publisher moves tags between a signed and an unsigned image.
func (s *storm) publisher(ctx context.Context) {
	for rest(ctx, 20*time.Millisecond, 100*time.Millisecond) {
		s.world.move(s.world.moving[rand.IntN(len(s.world.moving))][rand.IntN(2)])
	}
}

// faults breaks the way to the registry, and the registry.
func (s *storm) faults(ctx context.Context) {
	n := s.net
	network := []func(){
		func() { n.with(latency(40 * time.Millisecond)...) },
		func() { n.with(cut(0.3, rand.IntN(20_000))) },
		func() { n.with(append(latency(5*time.Millisecond), cut(0.9, rand.IntN(4_000)))...) },
		n.refuse,
		func() { n.with(reset(0.5, time.Duration(rand.IntN(50))*time.Millisecond)) },
		func() { n.with(stall) },
		func() { n.with(cut(0.7, rand.IntN(4_000)), slowClose(400*time.Millisecond)) },
		func() { n.with() }, // a cut, and no more
	}
	// None that makes a signature look as if it were not there: that is a
	// registry's word which the gate has to believe.
	tricks := []hostile.Trick{
		hostile.FlipBlob,
		hostile.Shorten,
		hostile.LieAboutDigest,
		hostile.Truncate,
		hostile.TruncateChunked,
		hostile.TooShortLength,
		hostile.Lengthen,
		hostile.TooLongLength,
		hostile.StallMidBody,
		hostile.StallAfterHeaders,
		hostile.Gzip,
		hostile.Status(http.StatusInternalServerError),
		hostile.Status(http.StatusServiceUnavailable),
		hostile.TooManyRequests("1"),
		hostile.BrokenSignatureTag(),
		hostile.Slow(50 * time.Millisecond),
	}
	for rest(ctx, 100*time.Millisecond, 2500*time.Millisecond) {
		end := s.gate.truth.trouble()
		which := rand.IntN(3)
		if which != 0 {
			s.did.netFaults.Add(1)
			network[rand.IntN(len(network))]()
		}
		if which != 1 {
			s.did.registryFaults.Add(1)
			s.world.registry.On(tricks[rand.IntN(len(tricks))])
		}
		rest(ctx, 50*time.Millisecond, 900*time.Millisecond)
		s.world.registry.Off()
		n.with() // and with it ends what hangs, and what was torn
		end()
	}
}

// operator changes the configuration, and restarts the gate.
func (s *storm) operator(ctx context.Context, restarts bool) {
	few := func() bool { return s.clients.reports.Load() < maxReports }
	for turn := 0; rest(ctx, 50*time.Millisecond, 400*time.Millisecond) && few(); turn++ {
		n := rand.IntN(100)
		switch { // a short run has each kind of restart too
		case restarts && turn == 3:
			n = 80
		case restarts && turn == 6:
			n = 90
		}
		switch {
		case n < 40:
			s.put(s.next())
		case n < 50:
			s.putByHangup()
		case n < 60:
			s.putKeyFile()
		case n < 72:
			s.putBroken()
		case n < 80:
			for range 1 + rand.IntN(5) {
				s.hangup()
			}
		case !restarts:
		case n < 90:
			s.did.terms.Add(1)
			s.restart(syscall.SIGTERM, nil)
		case n < 97:
			s.did.kills.Add(1)
			s.restart(syscall.SIGKILL, nil)
		default: // the change is there when the new process reads it
			s.did.terms.Add(1)
			s.did.swaps.Add(1)
			next := s.next()
			s.restart(syscall.SIGTERM, &next)
		}
	}
}

// next is some other configuration.
func (s *storm) next() revision {
	return revision{keys: []string{"A", "A", "B", "AB"}[rand.IntN(4)], warn: rand.IntN(5) == 0}
}

const reloadsWithin = 15 * time.Second // two cores are shared with a thousand clients

// write puts r on disk.
func (s *storm) write(r revision) {
	r.number = s.gate.truth.newest().number + 1
	s.gate.put(s.t, r)
}

// put puts r in force.
func (s *storm) put(r revision) {
	s.did.swaps.Add(1)
	s.write(r)
	s.confirm()
}

func (s *storm) confirm() {
	if !s.gate.confirm(reloadsWithin) {
		n, err := s.gate.inForce()
		s.t.Errorf(
			"revision %d is not in force %s after it was written, but %d (%v):\n%s",
			s.gate.truth.newest().number,
			reloadsWithin,
			n,
			err,
			s.gate.log.other(),
		)
	}
}

func (s *storm) hangup() {
	s.did.hangups.Add(1)
	s.gate.signal(syscall.SIGHUP)
}

func (s *storm) putByHangup() {
	s.did.swaps.Add(1)
	s.write(s.next())
	s.hangup()
	s.confirm()
}

// putKeyFile swaps the key's file and nothing else that decides. The key is in
// force before the policy's new number is.
func (s *storm) putKeyFile() {
	s.did.keyFiles.Add(1)
	was := s.gate.truth.newest()
	if !was.keyFile { // from now on the policy names the file
		was.keys, was.keyFile = "A", true
		s.put(was)
	}
	was.keys = map[string]string{"A": "B", "B": "A"}[was.keys]
	s.put(was)
}

// putBroken puts a configuration on disk that has to be refused whole, and
// repairs it.
func (s *storm) putBroken() {
	s.did.broken.Add(1)
	good := s.gate.policies(s.gate.truth.newest())
	s.gate.write(s.t, "policies/soak.yaml", []string{
		good + "\n- name: more\n  images: [\"reg.test/**\"]\n  static: allow\n  unknown: field\n",
		"- name: more\n  images: [\"reg.test/**\"]\n  static: allow\n- nam",
		"- name: more\n  images: [\"reg.test/**\"]\n  authorities: [{key: missing.pub}]\n",
		"\x00\xff",
		"- name: all\n  images: [\"**\"]\n  static: allow\n" + good, // makes the others unreachable
	}[rand.IntN(5)])
	if rand.IntN(2) == 0 {
		s.hangup()
	}
	said := ""
	for end := time.Now().Add(reloadsWithin); !strings.Contains(said, "refused"); time.Sleep(10 * time.Millisecond) {
		var err error
		if said, err = s.gate.ready(); time.Now().After(end) {
			s.t.Errorf(
				"a broken policy file is not refused within %s: /readyz says %q (%v)\n%s",
				reloadsWithin,
				said,
				err,
				s.gate.log.other(),
			)
			break
		}
	}
	if n, err := s.gate.inForce(); err != nil || n != s.gate.truth.newest().number {
		s.t.Errorf(
			"with a broken policy file on disk revision %d is in force, not %d (%v)",
			n,
			s.gate.truth.newest().number,
			err,
		)
	}
	s.put(s.next())
}

// restart ends the process and starts the next one, with a change of the
// configuration in between.
func (s *storm) restart(how syscall.Signal, change *revision) {
	defer s.gate.truth.trouble()()
	s.gate.end(s.t, how)
	if change != nil {
		s.write(*change)
	}
	s.gate.up(s.t)
	s.confirm()
}

// TestRollingRestart: a restart by SIGTERM costs no pull, when clients try a
// connection again that was refused or closed before an answer began. Answers
// that have begun come whole.
func TestRollingRestart(t *testing.T) {
	if testing.Short() {
		t.Skip("it restarts the gate under load for seconds; run it without -short")
	}
	const restarts, pullers = 6, 32
	w := newWorld(t, 4)
	net := startNetwork(t, strings.TrimPrefix(w.server.URL, "http://"))
	net.with(latency(10 * time.Millisecond)...) // so that pulls are under way whenever the gate has to go
	g := startGate(t, w, net.addr)
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var pulls, again atomic.Int64
	for n := range pullers {
		all.Go(func() {
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			for i := n; ctx.Err() == nil; i++ {
				if image := w.images[i%len(w.images)]; strings.Contains(image.signers, "A") {
					if err := pullThroughRestarts(g.addr, transport, image, &again); err != nil {
						t.Errorf("pull of %s: %v", image, err)
						return
					}
					pulls.Add(1)
				}
			}
		})
	}
	for range restarts {
		time.Sleep(100 * time.Millisecond)
		before := pulls.Load()
		g.end(t, syscall.SIGTERM)
		g.up(t)
		if !g.confirm(reloadsWithin) {
			t.Errorf("the gate does not come back:\n%s", g.log.other())
			break
		}
		for range 100 { // each restart meets pulls
			if pulls.Load() > before+pullers || t.Failed() {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	stop()
	all.Wait()
	t.Logf("%d whole pulls through %d restarts, %d requests asked again", pulls.Load(), restarts, again.Load())
	if pulls.Load() < restarts*pullers {
		t.Errorf("only %d pulls: the test shows nothing", pulls.Load())
	}
	g.end(t, syscall.SIGTERM)
}

func pullThroughRestarts(addr string, transport http.RoundTripper, i image, again *atomic.Int64) error {
	wanted := []question{
		{method: http.MethodHead, o: i.object, tag: i.tag},
		{method: http.MethodGet, o: i.object, tag: i.tag},
	}
	for n := 0; n < len(wanted); n++ {
		if err := getThroughRestarts(addr, transport, wanted[n], again); err != nil {
			return err
		}
		if wanted[n].method == http.MethodGet {
			for _, part := range wanted[n].o.parts {
				wanted = append(wanted, question{method: http.MethodGet, o: part})
			}
		}
	}
	return nil
}

func getThroughRestarts(addr string, transport http.RoundTripper, q question, again *atomic.Int64) error {
	var last error
	for range 1000 {
		req, err := http.NewRequest(q.method, "http://"+addr+q.path(), nil)
		if err != nil {
			return err
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			last = err
			again.Add(1)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		body, err := readAll(resp)
		switch {
		case err != nil:
			return fmt.Errorf("%s was cut while the gate drained, after %d bytes: %w", q.path(), len(body), err)
		case resp.StatusCode != http.StatusOK:
			return fmt.Errorf("%s: %s: %.500s", q.path(), resp.Status, body)
		case q.method == http.MethodGet && string(body) != string(q.o.body):
			return fmt.Errorf("%s arrived as something else", q.path())
		}
		return nil
	}
	return fmt.Errorf("%s: no connection, again and again: %w", q.path(), last)
}
