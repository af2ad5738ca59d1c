package upstream

import (
	"container/list"
	"sync"

	"golang.org/x/sync/singleflight"

	"github.com/pullgate/pullgate/policy"
)

const (
	// maxProven bounds the hosts of one wildcard that have served something and are
	// remembered with their connections, tokens and pauses; maxUnproven those that
	// have not. A client that makes names up pushes out none that work.
	maxProven   = 256
	maxUnproven = 64
)

// Wildcard are the registries whose hosts a pattern stands for. Each is made when
// it is asked for first, with credentials of its own. It is safe for concurrent
// use.
type Wildcard struct {
	pattern policy.HostPattern
	port    string
	open    func(host string) (*Upstream, error)
	opening singleflight.Group

	mu               sync.Mutex
	proven, unproven recent
	closed           bool
}

// NewWildcard makes the registries of a pattern with open, which must not send
// requests. port is what a host means that has none.
func NewWildcard(pattern policy.HostPattern, port string, open func(host string) (*Upstream, error)) *Wildcard {
	return &Wildcard{
		pattern:  pattern,
		port:     port,
		open:     open,
		proven:   newRecent(maxProven),
		unproven: newRecent(maxUnproven),
	}
}

// registry is the one of a host that the pattern matches. What fails to open is a
// registry that cannot be asked, and is opened anew the next time.
func (w *Wildcard) registry(host string) *Upstream {
	if u, ok := w.known(host); ok {
		return u
	}

	made, err, _ := w.opening.Do(host, func() (any, error) { // opening may read files and run helpers
		if u, ok := w.known(host); ok {
			return u, nil
		}
		u, err := w.open(host)
		if err == nil {
			w.remember(host, u)
		}
		return u, err
	})
	if err != nil {
		return unopened(host, err)
	}
	return made.(*Upstream)
}

func (w *Wildcard) known(host string) (*Upstream, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()

	if u, ok := w.proven.get(host); ok {
		return u, true
	}
	return w.unproven.get(host)
}

func (w *Wildcard) remember(host string, u *Upstream) {
	w.mu.Lock()
	defer w.mu.Unlock()

	if !w.closed {
		w.promote()
		w.unproven.put(host, u)
	}
}

// promote moves those that have served something to where they stay.
func (w *Wildcard) promote() {
	for at := w.unproven.order.Back(); at != nil; {
		known := at.Value.(recentHost)
		at = at.Prev()
		if known.up.answered.Load() {
			w.unproven.drop(known.host)
			w.proven.put(known.host, known.up)
		}
	}
}

// Close closes what is remembered. Requests that are under way go on.
func (w *Wildcard) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()

	w.closed = true
	w.proven.clear()
	w.unproven.clear()
}

// unopened is the registry of a host whose settings did not hold: each question
// fails with err, and none is sent.
func unopened(host string, err error) *Upstream {
	u, newErr := New(Config{Host: host, Stranger: true})
	if newErr != nil { // a host that the pattern matched always makes one
		panic(newErr)
	}
	u.unusable = err
	return u
}

// recent are upstreams by host, of which the one that was not asked for the
// longest makes room.
type recent struct {
	most   int
	byHost map[string]*list.Element
	order  *list.List // of recentHost, the latest first
}

type recentHost struct {
	host string
	up   *Upstream
}

func newRecent(most int) recent {
	return recent{most: most, byHost: map[string]*list.Element{}, order: list.New()}
}

func (r *recent) get(host string) (*Upstream, bool) {
	at, ok := r.byHost[host]
	if !ok {
		return nil, false
	}
	r.order.MoveToFront(at)
	return at.Value.(recentHost).up, true
}

func (r *recent) put(host string, u *Upstream) {
	for r.order.Len() >= r.most {
		last := r.order.Back().Value.(recentHost)
		last.up.Close()
		r.drop(last.host)
	}
	r.byHost[host] = r.order.PushFront(recentHost{host, u})
}

// drop forgets a host, and leaves its upstream open.
func (r *recent) drop(host string) {
	r.order.Remove(r.byHost[host])
	delete(r.byHost, host)
}

func (r *recent) clear() {
	for _, at := range r.byHost {
		at.Value.(recentHost).up.Close()
	}
	*r = newRecent(r.most)
}
