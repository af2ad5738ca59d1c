package proxy

import (
	"net/http"
	"strings"
	"time"

	"github.com/pullgate/pullgate/verify"
)

// Decision is one answer of the gate about an image, as it is recorded:
// docs/decisions.md says what each field means. Its texts come from clients and
// registries as they are; whoever writes them out makes them harmless. Its
// slices are shared and not to be changed.
type Decision struct {
	Time       time.Time        `json:"time"`
	ID         string           `json:"id"`
	Client     string           `json:"client"`
	Agent      string           `json:"agent,omitempty"`
	Method     string           `json:"method"`
	Kind       string           `json:"kind"`
	Image      string           `json:"image"`
	Reference  string           `json:"reference"`
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
	Error      string           `json:"error,omitempty"`
	Cache      bool             `json:"cache"`
	Took       float64          `json:"ms"`
	Upstream   float64          `json:"upstreamMs"`
}

const (
	maxRecordedAgent = 256  // bytes of a user agent
	maxRecordedError = 1000 // bytes of an error
)

// decided reports whether an answer is one that is recorded: about a manifest
// always; about a blob unless it was simply allowed, which its image's manifest
// has said already; about listings never.
func decided(k kind, outcome string) bool {
	return k == manifestKind || k == blobKind && outcome != verify.Allowed.String()
}

// record hands a decision over; the receiver must not wait.
func (o *observer) record(seen *observation, outcome string, took time.Duration, err error) {
	if o.decisions == nil || !decided(seen.request.kind, outcome) {
		return
	}
	v := &seen.result
	d := Decision{
		Time:      seen.start,
		ID:        seen.id,
		Client:    seen.request.client.Addr,
		Agent:     cut(seen.agent, maxRecordedAgent),
		Method:    seen.method,
		Kind:      seen.request.kind.String(),
		Image:     seen.request.repo.String(),
		Reference: seen.request.ref.String(),
		Outcome:   outcome,
		Status:    http.StatusOK,
		Took:      milliseconds(took),
		Upstream:  milliseconds(v.Upstream + seen.opening),
	}
	if seen.judged {
		d.Digest, d.Parent, d.Policy, d.PolicyHash = v.Digest.String(), v.Parent.String(), v.Policy, v.PolicyHash
		d.Findings, d.Reasons, d.Signer, d.Unknown, d.Cache = v.Findings, v.Reasons, v.Signer, v.Unknown, v.CacheHit
	}
	if err != nil {
		d.Status = asAnswer(err).status
		if !seen.judged || d.Status != http.StatusForbidden {
			d.Error = cut(err.Error(), maxRecordedError)
		}
	}
	o.decisions(d)
}

// cut is s, or a copy of its beginning: a part would keep the whole in memory.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.Clone(s[:limit])
}
