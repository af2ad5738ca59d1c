// Package replay knows what recorded decisions say about each image, and what a
// judge says about the same images now: what another configuration would change.
// It does not know configurations or gates, and prints nothing.
package replay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/cmd/pullgate/decisions"
	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/oci"
)

// Bounds of a history; the last three are for one image.
const (
	maxImages  = 200_000
	maxClients = 10_000 // that are told apart
	maxTags    = 5      // that are named
	maxParents = 8      // that are asked for
)

// maxDepth bounds how many indexes stand inside each other, as far as replay asks
// for them.
const maxDepth = 3

// History is what recorded decisions say about each image.
type History struct {
	images      []*image // by last request, the newest first
	byName      map[asked]*image
	apart       func(policy.Client) policy.Client
	requests    int
	first, last time.Time

	unreadable   int // lines that are no records
	failed       int // decisions that were errors then: they name no image for sure
	unknownParts int // blobs of images that were not known, admitted by mode: warn
}

// asked is an image, and the client it is judged for.
type asked struct {
	policy.Image
	client policy.Client
}

// image is one image, what came of it then, and what would now.
type image struct {
	name     policy.Image  // with its digest, or a tag where no digest is known
	client   policy.Client // one of those that are judged alike
	tags     []string
	parents  []digest.Digest
	admitted int // requests
	refused  int // requests
	clients  map[string]bool
	last     time.Time
	outcome  string // of the last request

	now verify.Verdict
	err error // why there is no verdict now
}

// ReadHistory reads the records of files, which are given with the newest first.
// apart says which client stands for one when images are judged again: the same
// for all that policies do not tell apart. Nil: policies tell none apart.
func ReadHistory(ctx context.Context, files []string, apart func(policy.Client) policy.Client) (*History, error) {
	if apart == nil {
		apart = func(policy.Client) policy.Client { return policy.Client{} }
	}
	h := &History{byName: map[asked]*image{}, apart: apart}
	for r, err := range decisions.ReadAll(ctx, files) {
		if err != nil && !errors.Is(err, decisions.ErrUnreadable) {
			return nil, err
		}

		if err != nil || !h.add(&r) {
			h.unreadable++
		}
		if len(h.images) > maxImages {
			return nil, fmt.Errorf("more than %d images are recorded: replay the files one by one", maxImages)
		}
	}

	slices.SortStableFunc(h.images, func(a, b *image) int { return b.last.Compare(a.last) })
	return h, nil
}

// Images returns how many images there are to judge.
func (h *History) Images() int { return len(h.images) }

// add reports whether r can be understood.
func (h *History) add(r *decisions.Record) bool {
	if r.Outcome == decisions.OutcomeError { // which may name no image at all
		h.failed++
		return true
	}
	repo, err := policy.ParseRepository(r.Image)
	if err != nil {
		return false
	}

	if r.Kind != decisions.KindManifest {
		// The image that a blob belongs to has records of its own.
		if r.Unknown && !r.Refused() {
			h.unknownParts++
		}
		return true
	}

	ref, ok := judgedBy(r)
	if !ok {
		return false
	}
	client := h.apart(policy.Client{Addr: r.Client, Name: r.ClientName})
	h.find(asked{policy.Image{Repository: repo, Reference: ref}, client}).add(r)

	h.requests++
	if h.first.IsZero() || r.Time.Before(h.first) {
		h.first = r.Time
	}
	if r.Time.After(h.last) {
		h.last = r.Time
	}
	return true
}

// judgedBy returns the reference that the image of r is judged by again: its
// digest, or what was asked for where no digest is known.
func judgedBy(r *decisions.Record) (ref policy.Reference, ok bool) {
	said := r.Digest
	if r.Digest == "" || isReferrersIndex(r) { // a list is admitted by its tag alone
		said = r.Reference
	}

	ref, err := policy.ParseReference(said)
	return ref, err == nil && (ref.Tag == "" || r.Digest == "")
}

// isReferrersIndex reports whether r is about the list of an image's referrers,
// which the gate admits for what it is.
func isReferrersIndex(r *decisions.Record) bool { return r.Signer == verify.SignerReferrersIndex }

// find returns the image as it was asked for, which it adds if it is new.
func (h *History) find(by asked) *image {
	one := h.byName[by]
	if one == nil {
		one = &image{name: by.Image, client: by.client, clients: map[string]bool{}}
		h.byName[by] = one
		h.images = append(h.images, one)
	}
	return one
}

func (i *image) add(r *decisions.Record) {
	if r.Refused() {
		i.refused++
	} else {
		i.admitted++
	}
	if i.outcome == "" || r.Time.After(i.last) {
		i.last, i.outcome = r.Time, r.Outcome
	}
	if len(i.clients) < maxClients {
		i.clients[r.Client] = true
	}

	if ref, err := policy.ParseReference(r.Reference); err == nil && ref.Tag != "" && r.Digest != "" {
		i.tags = appendNew(i.tags, ref.Tag, maxTags)
	}
	if parent := digest.Digest(r.Parent); oci.CheckDigest(parent) == nil && r.Parent != r.Digest {
		i.parents = appendNew(i.parents, parent, maxParents)
	}
}

// appendNew appends v to a list of different values, unless it has limit already.
func appendNew[T comparable](list []T, v T, limit int) []T {
	if len(list) >= limit || slices.Contains(list, v) {
		return list
	}
	return append(list, v)
}

// above returns the manifests to ask for before an image, the outermost first: an
// index may stand inside an index inside an index.
func (h *History) above(of *image) []digest.Digest {
	var list []digest.Digest
	var climb func(i *image, depth int)
	climb = func(i *image, depth int) {
		for _, parent := range i.parents {
			if slices.Contains(list, parent) || parent == of.name.Digest {
				continue
			}
			if up := h.byName[asked{of.name.At(parent), of.client}]; up != nil && depth < maxDepth {
				climb(up, depth+1)
			}
			list = appendNew(list, parent, 4*maxParents)
		}
	}

	climb(of, 1)
	return list
}

// Nothing returns an error that says why file, the first that was read, has no
// image to judge.
func (h *History) Nothing(file string) error {
	left := h.leftOut()
	if left == "" {
		left = "it holds none: pull through the gate first, or name the gate's own files with --decisions"
	}
	return fmt.Errorf("%s: no decision about an image that could be judged again; %s", file, left)
}

// leftOut says what was read and is not judged.
func (h *History) leftOut() string {
	var list []string
	for _, kind := range []struct {
		n    int
		what string
	}{
		{
			n: h.failed,
			what: "decisions were errors when they were recorded (no such image, a registry that was down): they " +
				"name no image to judge",
		},
		{
			n: h.unknownParts,
			what: "blobs of images that the gate did not know were admitted by mode: warn: enforced, such a blob is " +
				"refused until its image was pulled by tag, or warmed",
		},
		{n: h.unreadable, what: "lines are no decisions"},
	} {
		if kind.n > 0 {
			list = append(list, fmt.Sprintf("%d %s", kind.n, kind.what))
		}
	}
	return strings.Join(list, "; ")
}
