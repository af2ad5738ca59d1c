package replicas

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// load pulls all the time: images that a gate knows, from that gate; images that no
// gate knows, each request from another one; and images that are to be refused.
type load struct {
	f    *fleet
	stop chan struct{}
	all  sync.WaitGroup

	mu                sync.Mutex
	warm, warmLost    int
	cold, coldRetried int
	wrong             []string
	unfinished        []image // whose pull did not end while the load ran
}

// warmUp has every gate know images of its own.
func (f *fleet) warmUp(t *testing.T, each int) map[*gate][]image {
	t.Helper()
	known := map[*gate][]image{}
	for _, g := range f.gates {
		known[g] = f.pushMany(each)
		for _, i := range known[g] {
			for _, path := range i.paths() {
				eventually(t, "warm "+path, func() bool { status, _ := g.get(path); return status == 200 })
			}
		}
	}
	return known
}

// start begins the load: known is what each gate knows.
func (f *fleet) start(known map[*gate][]image, cold, unsigned []image) *load {
	f.forgets.Store(true)
	l := &load{f: f, stop: make(chan struct{})}
	for g, images := range known {
		l.all.Go(func() { l.pullKnown(g, images) })
	}
	l.all.Go(func() { l.pullCold(cold) })
	l.all.Go(func() { l.askRefused(unsigned) })
	return l
}

func (l *load) stopped() bool {
	select {
	case <-l.stop:
		return true
	default:
		return false
	}
}

// end stops the load and says what is wrong for certain.
func (l *load) end(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.all.Wait()
	t.Logf(
		"known: %d requests, %d lost; cold: %d requests, %d to be tried again",
		l.warm,
		l.warmLost,
		l.cold,
		l.coldRetried,
	)
	for _, w := range l.wrong {
		t.Error(w)
	}
	if l.warm == 0 || l.cold == 0 {
		t.Error("nothing was pulled: the test shows nothing")
	}
	if l.warmLost*1000 > l.warm {
		t.Errorf("%d of %d requests for what the gate knows were lost", l.warmLost, l.warm)
	}
}

func (l *load) pullKnown(g *gate, images []image) {
	for n := 0; !l.stopped(); n++ {
		for _, path := range images[n%len(images)].paths() {
			status, body := g.get(path)
			l.mu.Lock()
			l.warm++
			if status != 200 {
				l.warmLost++
				if status == 403 {
					l.wrong = append(l.wrong, fmt.Sprintf("known and refused: %s: %s", path, body))
				}
			}
			l.mu.Unlock()
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// pullCold pulls one image after the other; a client tries again what may be tried
// again.
func (l *load) pullCold(images []image) {
	for n, i := range images {
		if !l.pullOne(i) {
			l.unfinished = append(l.unfinished, images[n:]...)
			return
		}
	}
}

func (l *load) pullOne(i image) bool {
	for _, path := range i.paths() {
		for {
			if l.stopped() {
				return false
			}
			status, body := l.f.next().get(path)
			l.mu.Lock()
			l.cold++
			switch status {
			case 200:
			case 0, 503:
				l.coldRetried++
			default:
				l.wrong = append(l.wrong, fmt.Sprintf("%s: %d %s", path, status, body))
			}
			l.mu.Unlock()
			if status == 200 {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return true
}

func (l *load) askRefused(images []image) {
	for n := 0; !l.stopped(); n++ {
		for _, path := range images[n%len(images)].paths() {
			status, _ := l.f.next().get(path)
			if status != 403 && status != 503 && status != 0 {
				l.mu.Lock()
				l.wrong = append(l.wrong, fmt.Sprintf("unsigned and served: %s: %d", path, status))
				l.mu.Unlock()
			}
			if l.stopped() {
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// settle returns when every request of these images is answered 200 by every gate.
func (f *fleet) settle(t *testing.T, images []image) {
	t.Helper()
	for _, i := range images {
		for _, path := range i.paths() {
			for range f.gates {
				g := f.next()
				eventually(t, path+" at "+g.addr, func() bool { status, _ := g.get(path); return status == 200 })
			}
		}
	}
}
