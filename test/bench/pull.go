package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
)

const (
	roundTrip = 20 * time.Millisecond
	coldPulls = 20
	smallPart = 64 << 10 // a layer's bytes
)

// delayed is a way to a server that is a round trip longer: every byte arrives
// half of it later, in each direction, and a new connection costs one whole.
func delayed(to string) (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				defer near.Close()
				time.Sleep(roundTrip) // the handshake
				far, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer far.Close()
				var both sync.WaitGroup
				both.Go(func() { late(far, near) })
				both.Go(func() { late(near, far) })
				both.Wait()
			}()
		}
	}()
	return l, nil
}

type chunk struct {
	due   time.Time
	bytes []byte
}

// late copies, each piece half a round trip after it came, however many are on
// their way.
func late(to, from net.Conn) {
	way := make(chan chunk, 1024)
	go func() {
		defer close(way)
		for {
			b := make([]byte, 32<<10)
			n, err := from.Read(b)
			if n > 0 {
				way <- chunk{time.Now().Add(roundTrip / 2), b[:n]}
			}
			if err != nil {
				return
			}
		}
	}()
	for c := range way {
		time.Sleep(time.Until(c.due))
		if _, err := to.Write(c.bytes); err != nil {
			break
		}
	}
	if tcp, ok := to.(*net.TCPConn); ok {
		_ = tcp.CloseWrite() // the other direction may go on
	}
	for range way { // let the reader end
	}
}

// pull is what a runtime does: HEAD by tag, index and child by digest, config
// and layer at once.
func pull(ctx context.Context, c *http.Client, base string, img *image) (time.Duration, error) {
	began := time.Now()
	at := base + "/v2/" + img.repo
	status, _, err := ask(ctx, c, http.MethodHead, at+"/manifests/latest")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("HEAD %s: %d", at, status)
	}
	if err != nil {
		return 0, err
	}
	for _, d := range []string{img.indexDigest.String(), img.child.String()} {
		if err := must(ctx, c, at+"/manifests/"+d); err != nil {
			return 0, err
		}
	}
	var config, layer error
	var both sync.WaitGroup
	both.Go(func() { config = must(ctx, c, at+"/blobs/"+img.config.String()) })
	both.Go(func() { layer = must(ctx, c, at+"/blobs/"+img.layer.String()) })
	both.Wait()
	return time.Since(began), errors.Join(config, layer)
}

func measureCold(ctx context.Context, l *lab) error {
	way, err := delayed(l.registry.addr)
	if err != nil {
		return err
	}
	defer way.Close()
	direct := "http://" + way.Addr().String()
	gate, _, err := l.gate(ctx, gateConfig{name: "cold", upstream: direct})
	if err != nil {
		return err
	}
	defer gate.stop()
	earlier := gate
	if l.before != "" {
		c := gateConfig{name: "cold-before", upstream: direct, binary: l.before}
		if earlier, _, err = l.gate(ctx, c); err != nil {
			return err
		}
		defer earlier.stop()
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	fresh := func(signed bool) (*image, error) {
		layer := make([]byte, smallPart)
		if _, err := rand.Read(layer); err != nil {
			return nil, err
		}
		return l.push.image(ctx, "acme/cold-"+lower(rand.Text()), layer, 0, signed)
	}
	var through, without, refused, before []float64
	for i := range coldPulls + 1 {
		a, err1 := fresh(true)
		b, err2 := fresh(true)
		c, err3 := fresh(false)
		if err := errors.Join(err1, err2, err3); err != nil {
			return err
		}
		t1, err1 := pull(ctx, client, gate.base, a)
		t2, err2 := pull(ctx, client, direct, b)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if l.before != "" {
			d, err := fresh(true)
			if err != nil {
				return err
			}
			t, err := pull(ctx, client, earlier.base, d)
			if err != nil {
				return err
			}
			if i > 0 {
				before = append(before, ms(t))
			}
		}
		began := time.Now()
		status, body, err := get(ctx, client, gate.base+"/v2/"+c.repo+"/manifests/latest")
		if err != nil {
			return err
		}
		if status != http.StatusForbidden {
			return fmt.Errorf("an unsigned image was answered with %d %s", status, body)
		}
		t3 := time.Since(began)
		if i == 0 {
			continue // that one opened the connections, on both ways
		}
		through, without, refused = append(through, ms(t1)), append(without, ms(t2)), append(refused, ms(t3))
	}
	middle, spread := ratio(through, without)
	l.table.add(
		"cold verified pull, 20 ms away",
		number(median(through))+" ms",
		"without the gate "+number(median(without))+" ms",
		middle,
		fmt.Sprintf("%s; %d pulls each, 64 KiB layer, connections open", spread, coldPulls),
	)
	if l.before != "" {
		middle, spread := ratio(through, before)
		against := "the gate before " + number(median(before)) + " ms"
		l.table.add("cold verified pull, 20 ms away", number(median(through))+" ms", against, middle, spread)
	}
	l.table.add("403 for an unsigned image, 20 ms away", number(median(refused))+" ms", "", "",
		fmt.Sprintf("%s ms; %s round trips", between(refused), number(median(refused)/ms(roundTrip))))
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

const (
	stateImages = 2000
	firstImages = 6000 // before counting: by then the caches' counters, made whole at the start, are all in memory
	starts      = 5
)

func measureState(ctx context.Context, l *lab) error {
	empty, err := l.startTimes(ctx, func(i int) string { return fmt.Sprintf("empty-%d", i) })
	if err != nil {
		return err
	}
	// A garbage collector that runs often leaves in memory little but what is held.
	gate, _, err := l.gate(ctx, gateConfig{name: "state", env: []string{"GOGC=10"}})
	if err != nil {
		return err
	}
	defer gate.stop()
	if err := l.many(ctx, gate, 0, firstImages); err != nil {
		return err
	}
	before, err := gate.memory("RssAnon")
	if err != nil {
		return err
	}
	if err := l.many(ctx, gate, firstImages, firstImages+stateImages); err != nil {
		return err
	}
	after, err := gate.memory("RssAnon")
	if err != nil {
		return err
	}
	gate.stop()
	facts := filepath.Join(l.dir, "state", "state", "facts.db")
	file, used, err := disk(facts)
	if err != nil {
		return err
	}
	l.table.add(
		"memory per cached verdict, with its index",
		number(float64(after-before)/stateImages/1024)+" KiB",
		"",
		"",
		fmt.Sprintf("GOGC=10; %s MiB after %s images", number(float64(after)/(1<<20)), number(firstImages+stateImages)),
	)
	l.table.add(
		"disk per remembered image",
		number(float64(used)/(firstImages+stateImages)/1024)+" KiB",
		"",
		"",
		fmt.Sprintf(
			"an index, its signature and the facts, in pages used; the file itself grows in steps and has %s MiB",
			number(float64(file)/(1<<20)),
		),
	)
	full, err := l.startTimes(ctx, func(int) string { return "state" })
	if err != nil {
		return err
	}
	l.table.add(
		fmt.Sprintf("start until /v2/ answers, state of %s images", number(firstImages+stateImages)),
		number(median(full))+" ms",
		"empty state "+number(median(empty))+" ms",
		number(
			median(full)/median(empty),
		),
		fmt.Sprintf("%s ms, empty %s ms; %d starts each", between(full), between(empty), starts),
	)
	return nil
}

// many pulls the manifests of images from to to, a few at a time.
func (l *lab) many(ctx context.Context, gate *process, from, to int) error {
	failed := make([]error, to-from)
	var all sync.WaitGroup
	turn := make(chan struct{}, 4)
	for i := range failed {
		turn <- struct{}{}
		all.Go(func() {
			defer func() { <-turn }()
			repo := fmt.Sprintf("acme/state-%d", from+i)
			_, err := l.push.image(ctx, repo, []byte(repo), 0, true)
			failed[i] = errors.Join(err, must(ctx, http.DefaultClient, gate.base+"/v2/"+repo+"/manifests/latest"))
		})
	}
	all.Wait()
	return errors.Join(failed...)
}

func (l *lab) startTimes(ctx context.Context, name func(int) string) ([]float64, error) {
	var list []float64
	for i := range starts {
		gate, took, err := l.gate(ctx, gateConfig{name: name(i)})
		if err != nil {
			return nil, err
		}
		gate.stop()
		list = append(list, ms(took))
	}
	return list, nil
}

// disk is how large the state's file is, and how much of it is used.
func disk(file string) (size, used int64, err error) {
	db, err := bolt.Open(file, 0o600, &bolt.Options{ReadOnly: true, Timeout: 5 * time.Second, PreLoadFreelist: true})
	if err != nil {
		return 0, 0, err
	}
	err = db.View(func(tx *bolt.Tx) error {
		free := int64(db.Stats().FreePageN+db.Stats().PendingPageN) * int64(db.Info().PageSize)
		used = tx.Size() - free
		return nil
	})
	info, statErr := os.Stat(file)
	if err = errors.Join(err, statErr, db.Close()); err != nil {
		return 0, 0, err
	}
	return info.Size(), used, nil
}
