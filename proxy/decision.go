package proxy

import (
	"net/http"
	"strings"
	"time"

	"github.com/pullgate/pullgate/verify"
)

// Decision is one answer of the gate about an image, as it is recorded:
// docs/decisions.md says what each field means. Its texts are the client's and
// the registry's own; code that prints them must sanitize them first. Its slices
// are shared and must not be changed.
type Decision struct {
	Time       time.Time        `json:"time"`
	ID         string           `json:"id"`
	Client     string           `json:"client"`
	ClientName string           `json:"clientName,omitempty"`
	Agent      string           `json:"agent,omitempty"`
	Method     string           `json:"method"`
	Kind       string           `json:"kind"`
	Image      string           `json:"image"`
	Reference  string           `json:"reference"`
	Path       string           `json:"path,omitempty"`
	Digest     string           `json:"digest,omitempty"`
	Parent     string           `json:"parent,omitempty"`
	Outcome    string           `json:"outcome"`
	Status     int              `json:"status"`
	Policy     string           `json:"policy,omitempty"`
	PolicyHash string           `json:"policyHash,omitempty"`
	Findings   []verify.Finding `json:"findings,omitempty"`
	Reasons    []verify.Reason  `json:"reasons,omitempty"`
	Signer     string           `json:"signer,omitempty"`
	Unknown    bool             `json:"unknown,omitempty"`
	Redirected bool             `json:"redirected,omitempty"`
	Error      string           `json:"error,omitempty"`
	Cache      bool             `json:"cache"`
	Took       float64          `json:"ms"`
	Upstream   float64          `json:"upstreamMs"`
}

const (
	maxRecordedAgent = 256  // bytes of a user agent
	maxRecordedPath  = 500  // bytes of a path that names no known upstream
	maxRecordedError = 1000 // bytes of an error
)

// recorded reports whether an answer is recorded: about a manifest always;
// about a blob unless it was simply allowed, because its image's manifest has a
// record already; about a listing never. Of the requests that could not be
// parsed, those that name no known upstream are: a node asks there for an image.
func recorded(k kind, outcome string, err error) bool {
	switch k {
	case manifestKind:
		return true
	case blobKind:
		return outcome != verify.Allowed.String()
	case unparsed:
		return isUnknownUpstream(err)
	}
	return false
}

// record hands a decision over; the receiver must not wait.
func (o *observer) record(x *exchange, outcome string, took time.Duration, err error) {
	if o.decisions == nil || !recorded(x.request.kind, outcome, err) {
		return
	}

	v := &x.obs.result
	d := Decision{
		Time:       x.obs.start,
		ID:         x.obs.id,
		Client:     x.request.client.Addr,
		ClientName: x.request.client.Name,
		Agent:      cut(x.obs.agent, maxRecordedAgent),
		Method:     x.method,
		Kind:       x.request.kind.String(),
		Image:      x.request.repo.String(),
		Reference:  x.request.ref.String(),
		Path:       cut(x.obs.path, maxRecordedPath),
		Outcome:    outcome,
		Status:     http.StatusOK,
		Took:       milliseconds(took),
		Upstream:   milliseconds(v.Upstream + x.obs.opening),
	}
	if x.obs.judged {
		d.Digest, d.Parent = v.Digest.String(), v.Parent.String()
		d.Policy, d.PolicyHash = v.Policy, v.PolicyHash
		d.Findings, d.Reasons = v.Findings, v.Reasons
		d.Signer, d.Unknown, d.Cache = v.Signer, v.Unknown, v.CacheHit
	}
	if x.obs.redirected {
		d.Status, d.Redirected = http.StatusTemporaryRedirect, true
	}
	if err != nil {
		d.Status = asHTTPError(err).status
		if !x.obs.judged || d.Status != http.StatusForbidden {
			d.Error = cut(err.Error(), maxRecordedError)
		}
	}
	o.decisions(d)
}

// cut returns s, or a copy of its first limit bytes: a substring would keep the
// whole in memory.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.Clone(s[:limit])
}
