package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
)

const (
	// badFor is how long a mirror that failed is asked last.
	badFor = 30 * time.Second
	// mirrorPatience is how long a mirror is waited for while there is another.
	mirrorPatience = 5 * time.Second
)

// Mirrors are several registries that have the same. They are asked in order, and
// the next one where one does not have it, or cannot be asked; what one says is
// checked as a registry's answer always is. Safe for concurrent use.
type Mirrors struct {
	list []*Upstream
	now  func() time.Time

	mu  sync.Mutex
	bad map[*Upstream]time.Time // until when they are asked last
}

// NewMirrors makes one registry of at least one Upstream.
func NewMirrors(list []*Upstream) *Mirrors {
	return &Mirrors{list: list, now: list[0].now, bad: map[*Upstream]time.Time{}}
}

// inOrder are the mirrors as they are asked: those that have just failed last.
func (m *Mirrors) inOrder() []*Upstream {
	m.mu.Lock()
	defer m.mu.Unlock()

	var good, bad []*Upstream
	for _, u := range m.list {
		if m.now().Before(m.bad[u]) {
			bad = append(bad, u)
		} else {
			good = append(good, u)
		}
	}
	return append(good, bad...)
}

// judge remembers a mirror that could not be asked, or whose answer was none.
func (m *Mirrors) judge(u *Upstream, err error) {
	var failed *oci.UpstreamError
	if !errors.As(err, &failed) {
		return
	}
	switch failed.Status {
	case http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusTooManyRequests:
		m.mu.Lock()
		defer m.mu.Unlock()
		m.bad[u] = m.now().Add(badFor)
	}
}

// ask puts a question to the mirrors until one has what is asked for. Otherwise
// the error says the most that is known: that there is none only if all say so.
func (m *Mirrors) ask(ctx context.Context, question func(context.Context, *Upstream) error) error {
	var worst error
	mirrors := m.inOrder()
	for i, u := range mirrors {
		err := m.askOne(ctx, u, len(mirrors)-1-i, question)
		if err == nil || ctx.Err() != nil {
			return err
		}
		m.judge(u, err)
		if rank(err) > rank(worst) {
			worst = err
		}
	}
	return worst
}

// askOne waits for one mirror's answer, if so many others are left, no longer than
// they have time for theirs.
func (m *Mirrors) askOne(
	ctx context.Context,
	u *Upstream,
	left int,
	question func(context.Context, *Upstream) error,
) error {
	if left == 0 {
		return question(ctx, u)
	}
	patience := mirrorPatience
	if deadline, ok := ctx.Deadline(); ok {
		patience = min(patience, time.Until(deadline)/2)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return question(ctx, u)
}

// rank is how much an error leaves open: of what several mirrors say, the answer
// is the one that leaves the most open.
func rank(err error) int {
	var failed *oci.UpstreamError
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &failed):
		return 4
	}
	switch failed.Status {
	case http.StatusServiceUnavailable:
		return 4
	case http.StatusTooManyRequests, http.StatusBadGateway:
		return 3
	case http.StatusNotFound,
		http.StatusMethodNotAllowed,
		http.StatusNotImplemented,
		http.StatusBadRequest,
		http.StatusRequestedRangeNotSatisfiable:
		return 1
	}
	return 2
}

// Manifest implements Registry.
func (m *Mirrors) Manifest(ctx context.Context, image policy.Image, limit int64) (got oci.Manifest, err error) {
	err = m.ask(ctx, func(ctx context.Context, u *Upstream) (err error) {
		got, err = u.Manifest(ctx, image, limit)
		return err
	})
	return got, err
}

// Blob implements Registry.
func (m *Mirrors) Blob(
	ctx context.Context,
	repo policy.Repository,
	d digest.Digest,
	limit int64,
) (got []byte, err error) {
	err = m.ask(ctx, func(ctx context.Context, u *Upstream) (err error) {
		got, err = u.Blob(ctx, repo, d, limit)
		return err
	})
	return got, err
}

// errNothing is the answer of a mirror that has nothing of what another may have.
var errNothing = &oci.UpstreamError{Status: http.StatusNotFound, Err: errors.New("it lists nothing")}

// Referrers implements Registry: the first list that is not empty. What must
// be complete comes from Each.
func (m *Mirrors) Referrers(
	ctx context.Context,
	repo policy.Repository,
	d digest.Digest,
	limit int64,
) (got oci.Referrers, err error) {
	err = m.ask(ctx, func(ctx context.Context, u *Upstream) error {
		list, err := u.Referrers(ctx, repo, d, limit)
		return keepList(&got, list, err)
	})
	if errors.Is(err, errNothing) {
		err = nil
	}
	return got, err
}

// keepList puts a mirror's list into got, and returns errNothing where it is empty.
func keepList(got *oci.Referrers, list oci.Referrers, err error) error {
	if err != nil {
		return err
	}
	if list.Supported || !got.Supported {
		*got = list
	}
	if len(list.Descriptors) == 0 {
		return errNothing
	}
	return nil
}

// Resolve implements Registry: the first mirror that says what the tag stands for.
func (m *Mirrors) Resolve(
	ctx context.Context,
	repo policy.Repository,
	tag string,
) (d digest.Digest, ok bool, err error) {
	err = m.ask(ctx, func(ctx context.Context, u *Upstream) (err error) {
		d, ok, err = u.Resolve(ctx, repo, tag)
		if err == nil && !ok {
			return errNothing
		}
		return err
	})
	if errors.Is(err, errNothing) {
		err = nil
	}
	return d, ok, err
}

// fromMirror begins the query of a page that a certain mirror has linked to.
const fromMirror = "pullgate-mirror="

// ReferrersFrom implements Registry. Later pages come from the mirror of the first.
func (m *Mirrors) ReferrersFrom(
	ctx context.Context,
	repo policy.Repository,
	d digest.Digest,
	query string,
	limit int64,
) (got oci.Referrers, next string, err error) {
	err = m.askPage(ctx, query, func(ctx context.Context, u *Upstream, query string) error {
		list, link, err := u.ReferrersFrom(ctx, repo, d, query, limit)
		next = m.link(u, link)
		return keepList(&got, list, err)
	})
	if errors.Is(err, errNothing) {
		err = nil
	}
	return got, next, err
}

// Tags implements Registry. Later pages come from the mirror of the first.
func (m *Mirrors) Tags(
	ctx context.Context,
	repo policy.Repository,
	query string,
	limit int64,
) (tags []string, next string, err error) {
	err = m.askPage(ctx, query, func(ctx context.Context, u *Upstream, query string) (err error) {
		var link string
		tags, link, err = u.Tags(ctx, repo, query, limit)
		next = m.link(u, link)
		return err
	})
	return tags, next, err
}

// askPage is ask for a page that, where query says so, one mirror has linked to.
func (m *Mirrors) askPage(
	ctx context.Context,
	query string,
	question func(ctx context.Context, u *Upstream, query string) error,
) error {
	rest, bound := strings.CutPrefix(query, fromMirror)
	at, own, _ := strings.Cut(rest, "&")
	if n, err := strconv.Atoi(at); bound && err == nil && n >= 0 && n < len(m.list) {
		return question(ctx, m.list[n], own)
	}
	return m.ask(ctx, func(ctx context.Context, u *Upstream) error { return question(ctx, u, query) })
}

// link is the query by which a mirror's next page is asked for.
func (m *Mirrors) link(of *Upstream, next string) string {
	if next == "" {
		return ""
	}
	for i, u := range m.list {
		if u == of {
			return fromMirror + strconv.Itoa(i) + "&" + next
		}
	}
	return next
}

// OpenBlob implements Registry. The mirror that begins to send a blob sends all of
// it.
func (m *Mirrors) OpenBlob(
	parent context.Context,
	repo policy.Repository,
	d digest.Digest,
	method, byteRange string,
) (got *BlobResponse, err error) {
	var worst error
	mirrors := m.inOrder()
	for i, u := range mirrors {
		ctx, cancel := context.WithCancel(parent)
		patience := time.AfterFunc(mirrorPatience, cancel)
		if i == len(mirrors)-1 {
			patience.Stop()
		}
		got, err = u.OpenBlob(ctx, repo, d, method, byteRange)
		patience.Stop()
		if err == nil {
			got.Body = endingBody{ReadCloser: got.Body, end: cancel}
			return got, nil
		}
		cancel()
		if parent.Err() != nil {
			return nil, err
		}

		m.judge(u, err)
		if rank(err) > rank(worst) {
			worst = err
		}
	}
	return nil, worst
}

// endingBody ends its request's context when it is closed.
type endingBody struct {
	io.ReadCloser
	end context.CancelFunc
}

// Close implements io.Closer.
func (b endingBody) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}

// CountsManifests implements Registry: the mirror that is asked first does.
func (m *Mirrors) CountsManifests() bool { return m.inOrder()[0].CountsManifests() }

// Each implements Registry.
func (m *Mirrors) Each() []Registry {
	var list []Registry
	for _, u := range m.inOrder() {
		list = append(list, u)
	}
	return list
}

// ImpliedPort implements Registry: that of the first mirror.
func (m *Mirrors) ImpliedPort() string { return m.list[0].ImpliedPort() }

// Close implements Registry.
func (m *Mirrors) Close() {
	for _, u := range m.list {
		u.Close()
	}
}
