// Package decisions knows the record of what the gate has decided: what a record
// holds, where records are written, how they are found again, and what helps the
// reader of one. docs/decisions.md describes the format. The package decides
// nothing, reads no configuration and prints nothing: that is for the commands.
package decisions

import (
	"slices"
	"time"

	"github.com/pullgate/pullgate/cmd/pullgate/show"
	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy"
	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/reason"
)

// The outcomes beside those of verify.Outcome.
const (
	OutcomeError   = "error"   // the request ended without a verdict
	OutcomeUnknown = "unknown" // refused: a part of no image that the gate has admitted
)

// The kinds of records: about a manifest, or a config or a layer.
const (
	KindManifest = "manifest"
	KindBlob     = "blob"
)

// Outcomes returns every outcome that a record may have.
func Outcomes() []string {
	return []string{
		OutcomeError,
		OutcomeUnknown,
		verify.Allowed.String(),
		verify.Denied.String(),
		verify.Warned.String(),
		verify.WarnedUnverified.String(),
	}
}

// Record is one decision, as it is written and read. Its JSON is a format that
// other programs read: a field may be added, but none may change its name or its
// meaning. All of its texts are printable.
type Record struct {
	Time       time.Time `json:"time"` // in UTC
	ID         string    `json:"id"`
	Client     string    `json:"client"`
	ClientName string    `json:"clientName,omitempty"` // with its kind, as policies name clients
	Agent      string    `json:"agent,omitempty"`
	Method     string    `json:"method"`
	Kind       string    `json:"kind"`
	Image      string    `json:"image"`
	Reference  string    `json:"reference"`
	Path       string    `json:"path,omitempty"` // of a request that names no known upstream
	Digest     string    `json:"digest,omitempty"`
	Parent     string    `json:"parent,omitempty"`
	Outcome    string    `json:"outcome"`
	Status     int       `json:"status"`
	Policy     string    `json:"policy,omitempty"`
	PolicyHash string    `json:"policyHash,omitempty"`
	Findings   []Finding `json:"findings,omitempty"`
	Reasons    []Reason  `json:"reasons,omitempty"`
	Signer     string    `json:"signer,omitempty"`
	Unknown    bool      `json:"unknown,omitempty"`
	Redirected bool      `json:"redirected,omitempty"` // the client fetched the blob's bytes elsewhere
	Error      string    `json:"error,omitempty"`
	Cache      bool      `json:"cache"`
	Took       float64   `json:"ms"`         // milliseconds
	Upstream   float64   `json:"upstreamMs"` // milliseconds
}

// Finding is what one authority of the policy came to.
type Finding struct {
	Authority string `json:"authority"`
	Passed    bool   `json:"passed"`
	Detail    string `json:"detail"`
}

// Reason is one reason for a refusal.
type Reason struct {
	Code      reason.Code `json:"code,omitempty"`      // empty in lines of older versions
	Authority string      `json:"authority,omitempty"` // empty when no authority was asked
	Reason    string      `json:"reason"`
}

// NewReasons returns the printable reasons of a verdict, each cut off after limit
// bytes.
func NewReasons(reasons []verify.Reason, limit int) []Reason {
	var list []Reason
	for _, r := range reasons {
		list = append(list, Reason{
			Code:      r.Code,
			Authority: show.Printable(r.Authority),
			Reason:    show.Printable(show.Shorten(r.Text, limit)),
		})
	}
	return list
}

// newRecord returns the record of a decision. It shares no slice with d, whose
// slices belong to the verdict.
func newRecord(d *proxy.Decision) Record {
	r := Record{
		Time:       d.Time,
		ID:         d.ID,
		Client:     d.Client,
		ClientName: d.ClientName,
		Agent:      d.Agent,
		Method:     d.Method,
		Kind:       d.Kind,
		Image:      d.Image,
		Reference:  d.Reference,
		Path:       d.Path,
		Digest:     d.Digest,
		Parent:     d.Parent,
		Outcome:    d.Outcome,
		Status:     d.Status,
		Policy:     d.Policy,
		PolicyHash: d.PolicyHash,
		Findings:   make([]Finding, 0, len(d.Findings)),
		Reasons:    make([]Reason, 0, len(d.Reasons)),
		Signer:     d.Signer,
		Unknown:    d.Unknown,
		Redirected: d.Redirected,
		Error:      d.Error,
		Cache:      d.Cache,
		Took:       d.Took,
		Upstream:   d.Upstream,
	}
	for _, f := range d.Findings {
		r.Findings = append(r.Findings, Finding{Authority: f.Authority, Passed: f.Passed, Detail: f.Detail})
	}
	for _, why := range d.Reasons {
		r.Reasons = append(r.Reasons, Reason{Code: why.Code, Authority: why.Authority, Reason: why.Text})
	}

	r.sanitize()
	return r
}

// sanitize makes every text of r printable, and its time UTC. Clients, registries
// and, in a file, anyone who can write to it have put words into a record.
func (r *Record) sanitize() {
	r.Time = r.Time.UTC()
	for _, s := range r.texts() {
		*s = show.Printable(*s)
	}

	for i := range r.Findings {
		f := &r.Findings[i]
		f.Authority, f.Detail = show.Printable(f.Authority), show.Printable(f.Detail)
	}
	for i := range r.Reasons {
		why := &r.Reasons[i]
		why.Code = reason.Code(show.Printable(string(why.Code)))
		why.Authority, why.Reason = show.Printable(why.Authority), show.Printable(why.Reason)
	}
}

// texts returns the texts of r outside its lists.
func (r *Record) texts() [16]*string {
	return [...]*string{
		&r.ID,
		&r.Client,
		&r.ClientName,
		&r.Agent,
		&r.Method,
		&r.Kind,
		&r.Image,
		&r.Reference,
		&r.Path,
		&r.Digest,
		&r.Parent,
		&r.Outcome,
		&r.Policy,
		&r.PolicyHash,
		&r.Signer,
		&r.Error,
	}
}

// By returns the client as people read it: its name, where it has shown one, and
// its address.
func (r *Record) By() string { return policy.Client{Addr: r.Client, Name: r.ClientName}.String() }

// Refused reports whether r is a refusal. Lines of older versions say denied of a
// part of nothing known, too.
func (r *Record) Refused() bool {
	return r.Outcome == verify.Denied.String() || r.Outcome == OutcomeUnknown
}

// Name returns what r is about as an image is written: by its digest, or by what
// was asked for where no digest is known. Where no image is known, it is the path.
func (r *Record) Name() string {
	if r.Image == "" {
		return r.Path
	}

	said := r.Reference
	if r.Digest != "" {
		said = r.Digest
	}

	// Both texts may be anything: a record may have been written by hand.
	if ref, err := policy.ParseReference(said); err == nil && ref.Digest != "" {
		return r.Image + "@" + said
	}
	return r.Image + ":" + said
}

// OtherReasons returns the reasons that no finding of r gives already.
func (r *Record) OtherReasons() []Reason {
	var list []Reason
	for _, why := range r.Reasons {
		found := slices.ContainsFunc(r.Findings, func(f Finding) bool {
			return f.Authority == why.Authority && f.Detail == why.Reason
		})
		if !found {
			list = append(list, why)
		}
	}
	return list
}
