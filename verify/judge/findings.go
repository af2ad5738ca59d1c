package judge

import (
	"fmt"
	"strings"

	"github.com/pullgate/pullgate/verify/reason"
)

// Finding is what one authority of a policy came to, passed or not.
type Finding struct {
	Authority string `json:"authority"`
	Passed    bool   `json:"passed"`
	Detail    string `json:"detail"` // who signed, or why nothing counts
}

const (
	// maxRecorded bounds what is remembered of one authority's candidates.
	maxRecorded = 256
	// maxFindings bounds the reasons one refusal lists for one authority.
	maxFindings = 3
	// maxReasons bounds what one refusal lists in all.
	maxReasons = 12
)

// alreadyCounted is why an authority has not passed though its signature is good.
const alreadyCounted = "its signer was already counted for another authority"

// finding is why candidates did not count.
type finding struct {
	texts []string
	code  reason.Code // of the candidate that came furthest
}

func (f *finding) add(code reason.Code, err error) {
	f.code = reason.Furthest(f.code, code)
	if len(f.texts) < maxRecorded {
		f.texts = append(f.texts, err.Error())
	}
}

// text joins the first few reasons; empty when there are none.
func (f *finding) text() string {
	found := unique(f.texts)
	text := strings.Join(found[:min(len(found), maxFindings)], "; ")
	if more := len(found) - maxFindings; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

// allowed is the judgement of a policy that is satisfied.
func (t *tally) allowed() Judgement {
	return Judgement{
		Allowed:  true,
		Signer:   t.signer(),
		Findings: t.conclusions(),
		Ends:     t.ends,
	}
}

// label names an authority as reasons do.
func (t *tally) label(i int) string {
	a := &t.policy.Authorities[i]
	return fmt.Sprintf("%s %q", a.Kind(), a.Name)
}

// signer names all who made the image count.
func (t *tally) signer() string {
	t.mu.Lock()
	defer t.mu.Unlock()

	var list []string
	for i, signer := range t.standing() {
		if signer >= 0 {
			list = append(list, fmt.Sprintf("%s (%s)", t.label(i), t.signers[signer]))
		}
	}
	for i, by := range t.attested {
		list = append(list, fmt.Sprintf("attestation %s by %s", t.policy.Attestations[i].Name, by))
	}
	return strings.Join(list, ", ")
}

// conclusions are the findings of each authority and of each attestation that
// is demanded.
func (t *tally) conclusions() []Finding {
	t.mu.Lock()
	defer t.mu.Unlock()

	var list []Finding
	for i, signer := range t.standing() {
		f := Finding{
			Authority: t.policy.Authorities[i].Name,
			Passed:    signer >= 0,
			Detail:    t.findings[i].text(),
		}
		switch {
		case f.Passed:
			f.Detail = t.signers[signer].String()
		case len(t.passes[i]) > 0:
			f.Detail = alreadyCounted
		case f.Detail == "":
			f.Detail = "nothing found"
		}
		list = append(list, f)
	}

	for i, a := range t.policy.Attestations {
		f := Finding{
			Authority: "attestation " + a.Name,
			Passed:    t.attested[i] != "",
			Detail:    t.attested[i],
		}
		if !f.Passed {
			f.Detail = t.lacking[i].text()
			if f.Detail == "" {
				f.Detail = "none found"
			}
		}
		list = append(list, f)
	}
	return list
}

// reasons are why the policy is not satisfied: what the candidates lack, else
// that there were none, and what the search noted.
func (t *tally) reasons(notes []reason.Reason) []reason.Reason {
	var list []reason.Reason
	if t.examined > 0 {
		list = append(t.ofAuthorities(), t.ofAttestations()...)
	}
	if len(list) == 0 {
		list = t.nothing(notes)
	}

	for _, n := range unique(notes) {
		if len(list) > maxReasons {
			break
		}
		list = append(list, n)
	}
	return list
}

// nothing says that no candidate was there, or none that could be examined.
func (t *tally) nothing(notes []reason.Reason) []reason.Reason {
	var names []string
	for i := range t.policy.Authorities {
		names = append(names, t.label(i))
	}
	lookedFor := fmt.Sprintf("(looked for: %s)", strings.Join(names, ", "))

	if somethingThere(notes) {
		return []reason.Reason{{
			Code: reason.NotExamined,
			Text: "no signature that could be examined " + lookedFor,
		}}
	}
	list := []reason.Reason{{Code: reason.NoSignature, Text: "no signature found " + lookedFor}}
	if wantsAttestations(t.policy) {
		list = append(list, reason.Reason{
			Code: reason.OnlyAtGitHub,
			Text: "attestations that are kept only in GitHub's API are not seen: attest with push-to-registry: true",
		})
	}
	return list
}

// ofAuthorities are the reasons of the authorities that have not passed and
// were needed.
func (t *tally) ofAuthorities() []reason.Reason {
	standing := t.standing()
	passed := 0
	for _, signer := range standing {
		if signer >= 0 {
			passed++
		}
	}
	enough := passed >= t.threshold()

	var list []reason.Reason
	for i, signer := range standing {
		a := &t.policy.Authorities[i]
		if signer >= 0 || enough && !a.Required || len(list) >= maxReasons {
			continue
		}
		r, ok := t.ofAuthority(i)
		if !ok {
			continue
		}
		if a.Required {
			r.Text += " (required)"
		}
		list = append(list, r)
	}

	if !enough && t.policy.Threshold > 1 {
		list = append(list, reason.Reason{
			Code: reason.Threshold,
			Text: fmt.Sprintf("%d of %d required authorities have signed", passed, t.policy.Threshold),
		})
	}
	return list
}

// ofAuthority is why authority i has not passed; ok is false when no candidate
// was refused by it.
func (t *tally) ofAuthority(i int) (r reason.Reason, ok bool) {
	name := t.policy.Authorities[i].Name
	if len(t.passes[i]) > 0 {
		return reason.Reason{Code: reason.SignerCounted, Authority: name, Text: alreadyCounted}, true
	}

	text := t.findings[i].text()
	if text == "" {
		return reason.Reason{}, false
	}
	counts := "none counts"
	if len(t.signers) > 0 {
		counts = "none counts for it"
	}
	return reason.Reason{
		Code:      t.findings[i].code,
		Authority: name,
		Text:      fmt.Sprintf("%s found, %s: %s", plural(t.examined, "signature"), counts, text),
	}, true
}

// ofAttestations are the reasons of the attestations that are demanded and not
// there.
func (t *tally) ofAttestations() []reason.Reason {
	var list []reason.Reason
	for i, a := range t.policy.Attestations {
		if t.attested[i] != "" {
			continue
		}

		r := reason.Reason{
			Code:      reason.NoAttestation,
			Authority: "attestation " + a.Name,
			Text:      "no attestation of this type by " + strings.Join(a.Authorities, " or "),
		}
		if lacking := t.lacking[i].text(); lacking != "" {
			r.Code, r.Text = t.lacking[i].code, lacking
		} else if unread := t.unread.text(); unread != "" {
			r.Text += " (what does not count: " + unread + ")"
		}
		list = append(list, r)
	}
	return list
}

// unique is list without repetitions.
func unique[T comparable](list []T) []T {
	seen := map[T]bool{}
	var out []T
	for _, one := range list {
		if !seen[one] {
			seen[one] = true
			out = append(out, one)
		}
	}
	return out
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
