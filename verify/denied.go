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
// lists too is excused, because images share layers. ok is false when d is not
// refused; an error means that the gate cannot tell, and that no mode admits d.
func (s *denialSearch) deniedPart(
	ctx context.Context,
	d part,
	names ...digest.Digest,
) (v judgement, ok bool, err error) {
	denial, err := s.of(ctx, namedPart{d.kind, names, d.depth})
	if err != nil { // its text is all that is left of it: warn mode must not see that an upstream failed
		return judgement{}, false, errors.New("look for what is denied in writing: " + err.Error())
	}
	if denial == nil {
		return judgement{}, false, nil
	}

	v = judgement{Verdict: s.verdictOf(denial.policy, d.digest), final: true}
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
	looked  int
	excused bool // the part is one of something that is not denied, too
	alone   bool // other replicas are not asked
	lenient bool // what other replicas cannot be asked for is left out
}

// of is why p is denied; nil when it is not. What other replicas know counts where
// this one knows nothing that excuses p.
func (s *denialSearch) of(ctx context.Context, p namedPart) (*denial, error) {
	known, err := s.parentsOf(ctx, p.kind, p.names)
	if err != nil {
		return nil, err
	}
	found, err := s.amongst(ctx, p, known, s.by)
	if s.excused || s.alone || s.config.Others == nil {
		return found, err
	}

	told, toldErr := s.toldParentsOf(ctx, p, known)
	switch {
	case toldErr == nil:
		var more *denial
		more, toldErr = s.amongst(ctx, p, told, s.byBytes)
		if s.excused {
			return nil, nil
		}
		if found == nil {
			found = more
		}
	case s.lenient:
		toldErr = nil
	}
	if err = errors.Join(err, toldErr); err != nil {
		return nil, err
	}
	return found, nil
}

// amongst is why p is denied as a part of parents; nil when it is not, or when it
// is excused. by looks at one of them.
func (s *denialSearch) amongst(
	ctx context.Context,
	p namedPart,
	parents []digest.Digest,
	by lookFunc,
) (*denial, error) {
	s.excused = false
	var found *denial
	var couldNotTell error
	for _, parent := range parents {
		if s.looked++; s.looked > maxDenials {
			return nil, errTooManyParents
		}

		one, lists, err := by(ctx, p, parent)
		switch {
		case err != nil:
			couldNotTell = err
		case !lists:
		case one == nil: // it is a part of something else, too
			s.excused = true
			return nil, nil
		default:
			found = one
		}
	}
	s.excused = false // by may have looked further out
	if couldNotTell != nil {
		return nil, couldNotTell
	}
	return found, nil
}

// lookFunc is why the part is denied as one of parent. lists is false when parent
// does not list it after all.
type lookFunc func(ctx context.Context, p namedPart, parent digest.Digest) (d *denial, lists bool, err error)

// toldParentsOf lists the parents of a part that only other replicas know of.
func (s *denialSearch) toldParentsOf(
	ctx context.Context,
	p namedPart,
	known []digest.Digest,
) ([]digest.Digest, error) {
	var all []digest.Digest
	for _, name := range p.names {
		parents, err := s.config.Others.Parents(ctx, s.repo, p.kind, name)
		if err != nil {
			return nil, notTold(err)
		}
		all = append(all, parents...)
	}
	return slices.DeleteFunc(all, func(d digest.Digest) bool { return slices.Contains(known, d) }), nil
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

// by is a lookFunc for what this gate has seen to list the part.
func (s *denialSearch) by(ctx context.Context, p namedPart, parent digest.Digest) (d *denial, lists bool, err error) {
	if oci.CheckDigest(parent) != nil {
		return nil, false, nil
	}
	if denies := s.policyFor(parent); denies.DeniesDigests() {
		return newDenial(denies, parent, deniedBecause(denies)), true, nil
	}
	return s.byBytes(ctx, p, parent)
}

// byBytes is a lookFunc that believes nothing but the bytes of parent.
func (s *denialSearch) byBytes(
	ctx context.Context,
	p namedPart,
	parent digest.Digest,
) (d *denial, lists bool, err error) {
	if oci.CheckDigest(parent) != nil {
		return nil, false, nil
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
		return s.excuse(ctx, m)
	}
	further, err := s.of(ctx, namedPart{facts.PartManifest, []digest.Digest{m.Digest, m.alias}, p.depth + 1})
	if err != nil {
		return nil, true, err
	}
	if further == nil {
		return s.excuse(ctx, m)
	}
	return newDenial(further.policy, parent, further.reasons...), true, nil
}

// excuse is a lookFunc's answer about a manifest that is not denied. One that no
// registry is known to have had may be made up by the store: it excuses nothing
// unless the registry has it.
func (s *denialSearch) excuse(ctx context.Context, m *cachedManifest) (d *denial, lists bool, err error) {
	if m.seen.Load() == 0 {
		err = s.recheck(ctx, m)
	}
	if oci.IsNotFound(err) {
		return nil, false, nil
	}
	return nil, true, err
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

// deniedManifest is deniedPart for a manifest, by both of its names. While other
// replicas cannot be asked, one that this gate has admitted before is what it was.
func (q *question) deniedManifest(ctx context.Context, m *cachedManifest, depth int) (judgement, bool, error) {
	if !q.deniesDigests {
		return judgement{}, false, nil
	}
	search := &denialSearch{question: q, lenient: m.learned.Load() != 0}
	return search.deniedPart(ctx, part{facts.PartManifest, m.Digest, depth}, m.Digest, m.alias)
}

// deniedBlob is deniedPart for a blob, and for a manifest that is asked for as
// one. A blob that nothing is remembered to list is looked for in what is denied
// in writing: the manifests of an image may never have been asked for here.
func (q *question) deniedBlob(ctx context.Context, d digest.Digest) (v judgement, ok bool, err error) {
	if !q.deniesDigests {
		return judgement{}, false, nil
	}

	alone := &denialSearch{question: q, alone: true}
	v, ok, err = alone.deniedBlob(ctx, d)
	if err != nil || q.config.Others == nil && (ok || alone.excused) {
		return v, ok, err
	}
	if q.config.Others != nil { // who need not answer where this gate knows an excuse
		all := &denialSearch{question: q, lenient: alone.excused}
		if v, ok, err = all.deniedBlob(ctx, d); err != nil || ok || all.excused {
			return v, ok, err
		}
	}

	if err := q.learnDenied(ctx, d); err != nil {
		return judgement{}, false, err
	}
	last := &denialSearch{question: q}
	return last.deniedBlob(ctx, d)
}

// deniedBlob is deniedPart for a blob that may be a manifest. excused is about it as
// a blob.
func (s *denialSearch) deniedBlob(ctx context.Context, d digest.Digest) (v judgement, ok bool, err error) {
	if v, ok, err := s.deniedPart(ctx, part{facts.PartManifest, d, 0}, d); ok || err != nil {
		s.excused = false
		return v, ok, err
	}
	return s.deniedPart(ctx, part{facts.PartBlob, d, -1}, d)
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
