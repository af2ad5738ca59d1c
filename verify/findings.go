package verify

import (
	"fmt"
	"slices"
	"strings"
)

// finding is why candidates did not count.
type finding struct{ reasons []string }

func (f *finding) add(err error) {
	if len(f.reasons) < maxRecorded {
		f.reasons = append(f.reasons, err.Error())
	}
}

// maxRecorded bounds what is remembered of one authority's findings.
const maxRecorded = 256

// label names an authority as reasons do.
func (j *judgement) label(i int) string {
	a := &j.policy.Authorities[i]
	return fmt.Sprintf("%s %q", a.Kind(), a.Name)
}

// signer names everybody who made the image count.
func (j *judgement) signer() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var list []string
	for i, signer := range j.standing() {
		if signer >= 0 {
			list = append(list, fmt.Sprintf("%s (%s)", j.label(i), j.signers[signer]))
		}
	}
	for i, by := range j.attested {
		list = append(list, fmt.Sprintf("attestation %s by %s", j.policy.Attestations[i].Name, by))
	}
	return strings.Join(list, ", ")
}

// conclusions are the verdict's findings: of each authority and each
// attestation that is demanded.
func (j *judgement) conclusions() []Finding {
	j.mu.Lock()
	defer j.mu.Unlock()
	var list []Finding
	for i, signer := range j.standing() {
		f := Finding{Authority: j.policy.Authorities[i].Name, Passed: signer >= 0, Detail: j.findings[i].text()}
		switch {
		case f.Passed:
			f.Detail = j.signers[signer].String()
		case len(j.passes[i]) > 0:
			f.Detail = "its signer stands for another authority already"
		case f.Detail == "":
			f.Detail = "nothing found"
		}
		list = append(list, f)
	}
	for i, a := range j.policy.Attestations {
		f := Finding{Authority: "attestation " + a.Name, Passed: j.attested[i] != "", Detail: j.attested[i]}
		if !f.Passed {
			f.Detail = j.lacking[i].text()
			if f.Detail == "" {
				f.Detail = "none found"
			}
		}
		list = append(list, f)
	}
	return list
}

// maxFindings bounds the reasons one refusal lists for one authority.
const maxFindings = 3

// text joins the first few reasons; empty when there are none.
func (f *finding) text() string {
	found := unique(f.reasons)
	text := strings.Join(found[:min(len(found), maxFindings)], "; ")
	if more := len(found) - maxFindings; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

// maxReasons bounds what one refusal lists in all.
const maxReasons = 12

func (j *judgement) reasons(notes []string) []Reason {
	var list []Reason
	if j.examined > 0 {
		list = j.shortcomings()
	}
	if len(list) == 0 {
		var names []string
		for i := range j.policy.Authorities {
			names = append(names, j.label(i))
		}
		what := "no signature found"
		if len(notes) > 0 {
			what = "no signature that could be examined"
		}
		list = append(list, Reason{Reason: fmt.Sprintf("%s (looked for: %s)", what, strings.Join(names, ", "))})
		if wantsAttestations(j.policy) && len(notes) == 0 {
			list = append(
				list,
				Reason{
					Reason: "attestations that are kept only in GitHub's API are not seen: attest with " +
						"push-to-registry: true",
				},
			)
		}
	}
	for _, n := range unique(notes) {
		if len(list) > maxReasons {
			break
		}
		list = append(list, Reason{Reason: n})
	}
	return list
}

// shortcomings are what the candidates that were there do not satisfy.
func (j *judgement) shortcomings() []Reason {
	var list []Reason
	count := 0
	for i, signer := range j.standing() {
		a := &j.policy.Authorities[i]
		if signer >= 0 {
			count++
			continue
		}
		text := j.findings[i].text()
		switch {
		case len(j.passes[i]) > 0:
			text = "its signer stands for another authority already"
		case text != "":
			counts := "none counts"
			if len(j.signers) > 0 {
				counts = "none counts for it"
			}
			text = fmt.Sprintf("%s found, %s: %s", plural(j.examined, "signature"), counts, text)
		default:
			continue
		}
		if a.Required {
			text += " (required)"
		}
		if len(list) < maxReasons {
			list = append(list, Reason{Authority: a.Name, Reason: text})
		}
	}
	if count >= max(1, j.policy.Threshold) { // the others were not needed
		list = slices.DeleteFunc(list, func(r Reason) bool { return !strings.HasSuffix(r.Reason, "(required)") })
	} else if j.policy.Threshold > 1 {
		list = append(
			list,
			Reason{Reason: fmt.Sprintf("%d of %d authorities that are needed have signed", count, j.policy.Threshold)},
		)
	}
	for i, a := range j.policy.Attestations {
		if j.attested[i] != "" {
			continue
		}
		text := "no attestation of this type by " + strings.Join(a.Authorities, " or ")
		if lacking := j.lacking[i].text(); lacking != "" {
			text = lacking
		} else if unread := j.unread.text(); unread != "" {
			text += " (what does not count: " + unread + ")"
		}
		list = append(list, Reason{Authority: "attestation " + a.Name, Reason: text})
	}
	return list
}

func unique(list []string) []string {
	seen := map[string]bool{}
	var out []string
	for _, s := range list {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
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
