package soak

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/hostile"
)

const (
	atOnce       = 64 // clients that are at work; the others wait for their turn
	maxReports   = 20
	clientsAsk   = 20 * time.Second // at most for one request
	tries        = 400              // of one thing, while there is trouble
	betweenTries = 25 * time.Millisecond
)

// clients are a thousand of them, each asking for one thing after another.
type clients struct {
	t     *testing.T
	gate  *gate
	world *world
	turns chan struct{} // whoever holds one is at work
	loose sync.RWMutex  // read by whoever is at work, held by who wants peace
	quiet bool          // it is held
	over  atomic.Bool   // the last gate has ended
	kept  *http.Transport
	once  *http.Transport // one connection for each request

	reports atomic.Int64
	counts  struct {
		requests, admitted, warned, denied, unknown, failed, cut, left, pulls, gaveUp atomic.Int64
	}
}

func newClients(t *testing.T, g *gate, w *world) *clients {
	c := &clients{
		t: t, gate: g, world: w, turns: make(chan struct{}, atOnce),
		kept: &http.Transport{MaxIdleConnsPerHost: atOnce, DisableCompression: true},
		once: &http.Transport{DisableKeepAlives: true, DisableCompression: true},
	}
	t.Cleanup(c.kept.CloseIdleConnections)
	return c
}

// pause returns when nobody is at work any more and the connections are closed.
func (c *clients) pause() {
	if !c.quiet {
		c.loose.Lock()
		c.quiet = true
		c.kept.CloseIdleConnections()
	}
}

func (c *clients) resume() {
	if c.quiet {
		c.quiet = false
		c.loose.Unlock()
	}
}

// run is n clients' life. It returns when ctx has ended and all have noticed.
func (c *clients) run(ctx context.Context, n int) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			for ctx.Err() == nil && c.reports.Load() < maxReports {
				select {
				case <-ctx.Done():
					return
				case c.turns <- struct{}{}:
				}
				c.loose.RLock()
				if ctx.Err() == nil {
					c.act(i)
				}
				c.loose.RUnlock()
				<-c.turns
			}
		})
	}
	all.Wait()
}

// act is one of the things clients do.
func (c *clients) act(client int) {
	i := c.world.images[rand.IntN(len(c.world.images))]
	if rand.IntN(20) == 0 {
		i = c.world.moving[rand.IntN(len(c.world.moving))][0]
	}
	method := http.MethodGet
	if rand.IntN(3) == 0 {
		method = http.MethodHead
	}
	switch n := rand.IntN(100); {
	case n < 15:
		c.ask(question{client: client, method: method, o: i.object, tag: i.tag})
	case n < 25:
		c.ask(question{client: client, method: method, o: i.object})
	case n < 35: // a part, out of the blue
		o := i.object
		for len(o.parts) > 0 && (o == i.object || rand.IntN(2) == 0) {
			o = o.parts[rand.IntN(len(o.parts))]
		}
		c.ask(question{client: client, method: method, o: o, ranged: o.blob && rand.IntN(4) == 0})
	case n < 38: // a manifest, asked for as a blob
		c.ask(question{client: client, method: method, o: i.object, asBlob: true})
	case n < 40: // the client verifies again by itself
		if i.sigTag {
			c.ask(question{
				client:    client,
				method:    method,
				o:         i.object,
				tag:       hostile.SignatureTag(i.digest),
				signature: true,
			})
		}
	case n < 45: // a client that loses its patience
		c.ask(question{
			client:   client,
			method:   method,
			o:        i.object,
			tag:      i.tag,
			patience: time.Duration(rand.IntN(10_000)) * time.Microsecond,
		})
	case n < 75:
		c.pull(client, i, i.tag)
	default:
		c.pull(client, i, "")
	}
}

// pull gets a whole image: index, children, configs and layers, each again and
// again while there is trouble.
func (c *clients) pull(client int, i image, tag string) {
	if rand.IntN(2) == 0 { // as docker and containerd begin
		if !c.insist(question{client: client, method: http.MethodHead, o: i.object, tag: tag}) {
			return
		}
	}
	got := c.insistFor(question{client: client, method: http.MethodGet, o: i.object, tag: tag})
	if got == nil {
		return
	}
	wanted := append([]*object(nil), got.parts...)
	for n := 0; n < len(wanted); n++ {
		if !c.insist(question{client: client, method: http.MethodGet, o: wanted[n]}) {
			return
		}
		wanted = append(wanted, wanted[n].parts...)
	}
	c.counts.pulls.Add(1)
}

func (c *clients) insist(q question) bool { return c.insistFor(q) != nil }

// insistFor asks until there is a decision; nil when that is a refusal.
func (c *clients) insistFor(q question) *object {
	for n := 0; n < tries && !c.over.Load(); n++ {
		switch status, o := c.ask(q); status {
		case http.StatusOK:
			return o
		case http.StatusForbidden:
			return nil
		}
		time.Sleep(betweenTries)
	}
	c.counts.gaveUp.Add(1)
	return nil
}

// question is one request.
type question struct {
	client    int
	method    string
	o         *object
	tag       string // instead of o's digest
	signature bool   // tag is that of o's signatures
	asBlob    bool
	ranged    bool
	patience  time.Duration // after which the client leaves
}

func (q question) path() string {
	kind, reference := "manifests", q.o.digest.String()
	if q.o.blob || q.asBlob {
		kind = "blobs"
	}
	if q.tag != "" {
		reference = q.tag
	}
	return "/v2/reg.test/" + q.o.repo + "/" + kind + "/" + reference
}

// moves reports whether the tag may stand for something else than o.
func (q question) moves() bool { return q.tag == "latest" }

const rangeFrom = 10

// ask asks once, and holds the answer to the truth. It returns the status, 0
// without a whole answer, and what was served.
func (c *clients) ask(q question) (int, *object) {
	patience := clientsAsk
	if q.patience > 0 {
		patience = q.patience
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, q.method, "http://"+c.gate.addr+q.path(), nil)
	if err != nil {
		c.t.Error(err)
		return 0, nil
	}
	req.Header.Set("User-Agent", "soak-client/"+strconv.Itoa(q.client))
	if q.ranged {
		req.Header.Set("Range", "bytes="+strconv.Itoa(rangeFrom)+"-")
	}
	transport := c.kept
	if q.client%10 == 0 {
		transport = c.once
	}
	c.counts.requests.Add(1)
	a := &answer{question: q, sent: time.Now()}
	resp, err := transport.RoundTrip(req)
	if err == nil {
		a.status, a.header = resp.StatusCode, resp.Header
		a.body, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
	}
	if err != nil {
		switch {
		case q.patience > 0 && ctx.Err() != nil:
			c.counts.left.Add(1)
			return 0, nil
		case a.status != 0:
			c.counts.cut.Add(1)
		default:
			c.counts.failed.Add(1)
		}
		if !c.gate.truth.excused(a.sent) {
			c.report(a, "nothing was broken, and the answer did not come whole: "+err.Error())
		}
		return 0, nil
	}
	return a.status, c.hold(a)
}

// answer is a whole one.
type answer struct {
	question
	sent   time.Time
	status int
	header http.Header
	body   []byte
}

// hold holds an answer to the truth.
func (c *clients) hold(a *answer) *object {
	possible := c.gate.truth.since(a.sent)
	switch a.status {
	case http.StatusOK, http.StatusPartialContent:
		return c.holdServed(a, possible)
	case http.StatusForbidden:
		c.holdDenied(a, possible)
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable:
		c.counts.failed.Add(1)
		if !c.gate.truth.excused(a.sent) {
			c.report(a, "nothing was broken, and the gate could not tell")
		}
	case http.StatusNotFound:
		if !a.asBlob ||
			!slices.ContainsFunc(possible, func(r revision) bool { return r.warn }) { // a registry has no such blob
			c.report(a, "no client has asked for anything that is not there")
		}
	default:
		c.report(a, "no client has asked for anything that is answered so")
	}
	return nil
}

func (c *clients) holdServed(a *answer, possible []revision) *object {
	c.counts.admitted.Add(1)
	said := digest.Digest(a.header.Get("Docker-Content-Digest"))
	o := c.world.objects[a.o.repo+"@"+said.String()]
	switch {
	case o == nil:
		c.report(a, "served as "+said.String()+", which nobody has pushed")
		return nil
	case a.tag == "" && o != a.o:
		c.report(a, "served as "+o.String())
	case a.tag != "" && !a.moves() && !a.signature && o != a.o:
		c.report(a, "served as "+o.String())
	case a.header.Get("Content-Length") != strconv.Itoa(len(o.body)) && !a.ranged:
		c.report(a, "Content-Length is "+a.header.Get("Content-Length"))
	case a.status == http.StatusPartialContent && !a.ranged:
		c.report(a, "nobody asked for a range")
	case a.ranged && a.status == http.StatusPartialContent: // nobody but the client can check a part's bytes
		if a.method == http.MethodGet && string(a.body) != string(o.body[rangeFrom:]) && !c.gate.truth.excused(a.sent) {
			c.report(a, "nothing was broken, and the range has other bytes")
		}
	case a.method == http.MethodGet && digest.FromBytes(a.body) != o.digest:
		c.report(a, "the bytes are not those of the digest")
	}
	may, allWarn, noneWarns := false, true, true
	for _, r := range possible {
		may = may || r.mayAllow(o)
		allWarn, noneWarns = allWarn && r.warn, noneWarns && !r.warn
	}
	warning := a.header.Get("Warning")
	switch {
	case !may:
		c.report(a, "WRONG 200: "+o.String()+" is not to be admitted"+revisions(possible))
	case noneWarns && warning != "":
		c.report(a, "a warning, and no policy warns: "+warning)
	}
	if warning != "" {
		c.counts.warned.Add(1)
	}
	if !o.blob && !a.asBlob {
		o.wasServed()
	}
	if a.status == http.StatusPartialContent {
		a.status = http.StatusOK
	}
	return o
}

func (c *clients) holdDenied(a *answer, possible []revision) {
	c.counts.denied.Add(1)
	if a.header.Get("Pullgate-Decision") == "" {
		c.report(a, "403 without a decision")
		return
	}
	o := a.o
	if a.method == http.MethodGet {
		var said struct {
			Errors []struct {
				Code   string
				Detail struct {
					Digest  digest.Digest
					Reasons []string
				}
			}
		}
		if err := json.Unmarshal(
			a.body,
			&said,
		); err != nil || len(said.Errors) != 1 ||
			said.Errors[0].Code != "DENIED" {
			c.report(a, "a 403 that is no DENIED")
			return
		}
		detail := said.Errors[0].Detail
		if a.moves() {
			if o = c.world.objects[o.repo+"@"+detail.Digest.String()]; o == nil {
				c.report(a, "denied as "+detail.Digest.String()+", which nobody has pushed")
				return
			}
		}
		if len(detail.Reasons) > 0 && detail.Reasons[0] == "unknown_part" {
			c.counts.unknown.Add(1)
		}
	} else if a.moves() {
		return // a HEAD does not say what was refused
	}
	if a.asBlob {
		return // unknown_part is right as long as nobody knows it for a manifest
	}
	must := true
	for _, r := range possible {
		must = must && (a.signature || r.mustAllow(o, a.sent))
	}
	if must {
		c.report(a, "WRONG 403: "+o.String()+" is to be admitted"+revisions(possible))
	}
}

func revisions(list []revision) string {
	var b strings.Builder
	b.WriteString(" under ")
	for i, r := range list {
		if i > 0 {
			b.WriteString(" or ")
		}
		fmt.Fprintf(&b, "revision %d (keys %s, warn %v)", r.number, r.keys, r.warn)
	}
	return b.String()
}

// report says what was asked, answered and logged.
func (c *clients) report(a *answer, problem string) {
	if c.reports.Add(1) > maxReports {
		return
	}
	got := "no whole answer"
	if a.status != 0 {
		got = fmt.Sprintf("%d %v\n%.600s", a.status, a.header, a.body)
	}
	c.t.Errorf("%s\nasked: %s %s (%s), sent %s, answered after %s\ngot: %s\nlog: %s", problem, a.method, a.path(), a.o,
		a.sent.Format("15:04:05.000"), time.Since(a.sent), got, c.gate.log.decision(a.header.Get("Pullgate-Decision")))
}

func (c *clients) String() string {
	n := &c.counts
	return fmt.Sprintf(
		"%d requests: %d admitted (%d with a warning), %d denied (%d as unknown parts), %d without an answer or "+
			"with 429, 502, 503, %d cut, %d clients left; %d whole pulls, %d given up",
		n.requests.Load(),
		n.admitted.Load(),
		n.warned.Load(),
		n.denied.Load(),
		n.unknown.Load(),
		n.failed.Load(),
		n.cut.Load(),
		n.left.Load(),
		n.pulls.Load(),
		n.gaveUp.Load(),
	)
}

// sweep asks for everything once more while nothing is broken: every image must
// get the one right answer at once, and every part that of its images.
func (c *clients) sweep() error {
	r := c.gate.truth.newest()
	for _, i := range c.world.images {
		want := http.StatusForbidden
		if r.mayAllow(i.object) {
			want = http.StatusOK
		}
		for _, q := range []question{
			{method: http.MethodHead, o: i.object, tag: i.tag},
			{method: http.MethodGet, o: i.object, tag: i.tag},
			{method: http.MethodGet, o: i.object},
		} {
			if got, _ := c.ask(q); got != want {
				return fmt.Errorf(
					"after the storm %s %s (%s) is answered %d, not %d",
					q.method,
					q.path(),
					i.object,
					got,
					want,
				)
			}
		}
		parts := append([]*object(nil), i.parts...)
		for n := 0; n < len(parts); n++ {
			switch got, _ := c.ask(question{method: http.MethodGet, o: parts[n]}); {
			case got == http.StatusOK: // ask has looked whether it may be
			case got == http.StatusForbidden && want == http.StatusForbidden:
			default:
				return fmt.Errorf("after the storm %s, a part of %s, is answered %d", parts[n], i.object, got)
			}
			parts = append(parts, parts[n].parts...)
		}
	}
	if c.reports.Load() > 0 {
		return errors.New("see above")
	}
	return nil
}

func readAll(resp *http.Response) ([]byte, error) {
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}
