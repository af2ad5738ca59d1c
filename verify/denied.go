package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/oci"
	"github.com/pullgate/pullgate/verify/reason"
)

// maxDenials bounds the manifests that are looked at for one question about what
// is denied in writing.
const maxDenials = 1024

// deniedPart refuses d when every manifest that is remembered to list it is
// denied in writing, by its own digest or as such a part itself: whatever admits
// d otherwise, known-bad content is known-bad in parts. What another manifest
// lists too is not refused for this, because images share layers. ok is false
// when d is no such part; an error means that the gate cannot tell, and that no
// mode admits d.
func (q *question) deniedPart(ctx context.Context, d part, names ...digest.Digest) (v judgement, ok bool, err error) {
	if !q.deniesDigests {
		return judgement{}, false, nil
	}

	search := &denialSearch{question: q}
	denial, err := search.of(ctx, namedPart{d.kind, names, d.depth})
	if err != nil { // its text is all that is left of it: warn mode must not see that an upstream failed
		return judgement{}, false, errors.New("look for what is denied in writing: " + err.Error())
	}
	if denial == nil {
		return judgement{}, false, nil
	}

	v = judgement{Verdict: q.verdictOf(denial.policy, d.digest), final: true}
	v.Parent, v.Reasons = denial.parent, denial.reasons
	return v, true, nil
}

// denial is why a part is denied in writing.
type denial struct {
	policy  *policy.Policy
	parent  digest.Digest
	reasons []Reason
}

// namedPart is a part by all of its names that are known.
type namedPart struct {
	kind  facts.PartKind
	names []digest.Digest
	depth int // as of part
}

// denialSearch looks for what is denied in writing, and counts what it looks at.
type denialSearch struct {
	*question
	looked int
}

// of is why p is denied; nil when it is not.
func (s *denialSearch) of(ctx context.Context, p namedPart) (*denial, error) {
	parents, err := s.parentsOf(ctx, p.kind, p.names)
	if err != nil {
		return nil, err
	}

	var found *denial
	var couldNotTell error
	for _, parent := range parents {
		if s.looked++; s.looked > maxDenials {
			return nil, errTooManyParents
		}

		one, lists, err := s.by(ctx, p, parent)
		switch {
		case err != nil:
			couldNotTell = err
		case !lists:
		case one == nil: // it is a part of something else, too
			return nil, nil
		default:
			found = one
		}
	}
	if couldNotTell != nil {
		return nil, couldNotTell
	}
	return found, nil
}

// parentsOf lists the remembered parents of a part, by each of its names.
func (q *question) parentsOf(ctx context.Context, kind facts.PartKind, names []digest.Digest) ([]digest.Digest, error) {
	var all []digest.Digest
	for _, name := range names {
		parents, err := q.config.Store.Parents(ctx, q.repo, kind, name)
		if err != nil {
			return nil, fmt.Errorf("read state: %w", err)
		}
		all = append(all, parents...)
	}
	return all, nil
}

// by is why the part is denied as one of parent. lists is false when parent does
// not list it after all.
func (s *denialSearch) by(ctx context.Context, p namedPart, parent digest.Digest) (d *denial, lists bool, err error) {
	if oci.CheckDigest(parent) != nil {
		return nil, false, nil
	}
	if denies := s.policyFor(parent); denies.DeniesDigests() {
		return newDenial(denies, parent, deniedBecause(denies)), true, nil
	}

	m, err := s.load(ctx, parent)
	if oci.IsNotFound(err) || errors.Is(err, oci.ErrManifest) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	list := listed(m, p.kind)
	if !slices.ContainsFunc(p.names, func(name digest.Digest) bool { return slices.Contains(list, name) }) {
		return nil, false, nil
	}

	if denies := s.policyOf(m); denies.DeniesDigests() { // by its other name
		return newDenial(denies, parent, deniedBecause(denies)), true, nil
	}
	if p.depth > maxNesting { // deeper than anything is admitted
		return nil, true, nil
	}
	further, err := s.of(ctx, namedPart{facts.PartManifest, []digest.Digest{m.Digest, m.alias}, p.depth + 1})
	if err != nil || further == nil {
		return nil, true, err
	}
	return newDenial(further.policy, parent, further.reasons...), true, nil
}

func newDenial(p *policy.Policy, parent digest.Digest, because ...Reason) *denial {
	refused := Reason{
		Code: reason.ParentRefused,
		Text: "it is part of " + parent.String() + ", which is refused",
	}
	return &denial{
		policy:  p,
		parent:  parent,
		reasons: append([]Reason{refused}, because...),
	}
}

// listed are the parts of a kind that m lists.
func listed(m *cachedManifest, kind facts.PartKind) []digest.Digest {
	if kind == facts.PartManifest {
		return m.Manifests
	}
	return m.Blobs
}

// deniedManifest is deniedPart for a manifest, by both of its names.
func (q *question) deniedManifest(ctx context.Context, m *cachedManifest, depth int) (judgement, bool, error) {
	return q.deniedPart(ctx, part{facts.PartManifest, m.Digest, depth}, m.Digest, m.alias)
}

// deniedBlob is deniedPart for a blob, and for a manifest that is asked for as
// one. A blob that nothing is remembered to list is looked for in what is denied
// in writing: the manifests of an image may never have been asked for here.
func (q *question) deniedBlob(ctx context.Context, d digest.Digest) (v judgement, ok bool, err error) {
	if !q.deniesDigests {
		return judgement{}, false, nil
	}
	if v, ok, err := q.deniedPart(ctx, part{facts.PartManifest, d, 0}, d); ok || err != nil {
		return v, ok, err
	}

	asBlob := part{facts.PartBlob, d, -1}
	known, err := q.parentsOf(ctx, facts.PartBlob, []digest.Digest{d})
	if err != nil {
		return judgement{}, false, err
	}
	if len(known) == 0 {
		if err := q.learnDenied(ctx, d); err != nil {
			return judgement{}, false, err
		}
	}
	return q.deniedPart(ctx, asBlob, d)
}

// learnDenied remembers what lists the blob d among the manifests that are
// denied in writing, and their children.
func (q *question) learnDenied(ctx context.Context, d digest.Digest) error {
	var roots []digest.Digest
	for _, name := range q.config.Policies.DeniedDigests(q.repo, q.client) {
		root := digest.Digest(name)
		if q.policyFor(root).DeniesDigests() {
			roots = append(roots, root)
		}
	}

	err := q.descend(ctx, d, roots, func(path []*cachedManifest) (bool, error) {
		for _, m := range path {
			if err := q.remember(ctx, m, judgement{}); err != nil {
				return false, err
			}
		}
		return true, nil
	})
	var quota *QuotaError
	switch {
	case errors.Is(err, errLongDescent), err == nil: // what is remembered is what counts
		return nil
	case errors.As(err, &quota):
		return err
	}
	return errors.New("look for what is denied in writing: " + err.Error())
}

// rememberDenied remembers what a manifest lists that is denied in writing, so
// that the denial reaches its parts.
func (q *question) rememberDenied(ctx context.Context, m *cachedManifest, v judgement) error {
	if !q.deniesDigests || v.Admitted() || !v.final {
		return nil
	}
	return q.remember(ctx, m, judgement{})
}
