package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy"
	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/oci"
)

const (
	maxPulledImages  = 200_000
	maxPulledClients = 10_000 // of one image that are told apart
	maxPulledTags    = 5      // of one image that are named
	maxPulledParents = 8      // of one image that are asked for
)

// history is what recorded decisions say about each image.
type history struct {
	images      []*pulledImage // by last request, the newest first
	byName      map[policy.Image]*pulledImage
	requests    int
	first, last time.Time

	unreadable   int // lines that are no decision
	untold       int // decisions that were errors then: nobody knows about which image
	unknownParts int // blobs of images that were not known, admitted by mode: warn
}

// pulledImage is one image, what came of it then, and what would now.
type pulledImage struct {
	image    policy.Image // a digest; a tag where no digest is known
	tags     []string
	parents  []digest.Digest
	admitted int // requests
	refused  int
	clients  map[string]bool
	last     time.Time
	outcome  string // of the last request

	now verify.Verdict
	err error
}

func readHistory(ctx context.Context, files []string) (*history, error) {
	h := &history{byName: map[policy.Image]*pulledImage{}}
	for line, err := range newestLines(files) {
		if err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("read decisions: %w", ctx.Err())
		}
		d, ok := decodeDecision(line)
		if !ok || !h.add(&d) {
			h.unreadable++
		}
		if len(h.images) > maxPulledImages {
			return nil, fmt.Errorf("more than %d images are recorded: replay the files one by one", maxPulledImages)
		}
	}
	slices.SortStableFunc(h.images, func(a, b *pulledImage) int { return b.last.Compare(a.last) })
	return h, nil
}

// add reports whether d is a decision that can be understood.
func (h *history) add(d *proxy.Decision) bool {
	repo, err := policy.ParseRepository(d.Image)
	if err != nil {
		return false
	}
	switch {
	case d.Outcome == "error":
		h.untold++
		return true
	case d.Kind != "manifest":
		if d.Unknown && d.Outcome != verify.Denied.String() {
			h.unknownParts++
		}
		return true // its image has lines of its own
	}
	said := d.Digest
	if d.Digest == "" || d.Signer == verify.SignerReferrersIndex { // which is admitted by its tag alone
		said = d.Reference
	}
	ref, err := policy.ParseReference(said)
	if err != nil || ref.Tag != "" && d.Digest != "" {
		return false
	}
	name := policy.Image{Repository: repo, Reference: ref}
	image := h.byName[name]
	if image == nil {
		image = &pulledImage{image: name, clients: map[string]bool{}}
		h.byName[name] = image
		h.images = append(h.images, image)
	}
	h.requests++
	image.add(d)
	if h.first.IsZero() || d.Time.Before(h.first) {
		h.first = d.Time
	}
	if d.Time.After(h.last) {
		h.last = d.Time
	}
	return true
}

func (p *pulledImage) add(d *proxy.Decision) {
	if d.Outcome == verify.Denied.String() {
		p.refused++
	} else {
		p.admitted++
	}
	if p.outcome == "" || d.Time.After(p.last) {
		p.last, p.outcome = d.Time, d.Outcome
	}
	if len(p.clients) < maxPulledClients {
		p.clients[d.Client] = true
	}
	if ref, err := policy.ParseReference(d.Reference); err == nil && ref.Tag != "" && d.Digest != "" {
		p.tags = some(p.tags, ref.Tag, maxPulledTags)
	}
	if parent := digest.Digest(d.Parent); oci.CheckDigest(parent) == nil && d.Parent != d.Digest {
		p.parents = some(p.parents, parent, maxPulledParents)
	}
}

// some adds one to a short list of different ones.
func some[T comparable](list []T, one T, most int) []T {
	if len(list) >= most || slices.Contains(list, one) {
		return list
	}
	return append(list, one)
}

// above are the manifests to ask for before image, the outermost first: an
// index may stand inside an index inside an index.
func (h *history) above(image *pulledImage) []digest.Digest {
	var list []digest.Digest
	var climb func(p *pulledImage, depth int)
	climb = func(p *pulledImage, depth int) {
		for _, parent := range p.parents {
			if slices.Contains(list, parent) || parent == image.image.Digest {
				continue
			}
			if up := h.byName[image.image.At(parent)]; up != nil && depth < 3 {
				climb(up, depth+1)
			}
			list = some(list, parent, 4*maxPulledParents)
		}
	}
	climb(image, 1)
	return list
}

// nothing says why there is no image to judge.
func (h *history) nothing(file string) error {
	left := h.leftOut()
	if left == "" {
		left = "it holds none: pull through the gate first, or name the gate's own files with --decisions"
	}
	return fmt.Errorf("%s: no decision about an image that could be judged again; %s", file, left)
}

// leftOut says what was read and is not judged.
func (h *history) leftOut() string {
	var list []string
	for _, one := range []struct {
		n    int
		what string
	}{
		{
			h.untold,
			"decisions were errors when they were recorded (no such image, a registry that was down): they name no " +
				"image to judge",
		},
		{
			h.unknownParts,
			"blobs of images that the gate did not know were admitted by mode: warn: enforced, such a blob is " +
				"refused until its image was pulled by tag, or warmed",
		},
		{h.unreadable, "lines are no decisions"},
	} {
		if one.n > 0 {
			list = append(list, fmt.Sprintf("%d %s", one.n, one.what))
		}
	}
	return strings.Join(list, "; ")
}
