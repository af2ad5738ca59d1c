package main

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pullgate/pullgate/cmd/pullgate/show"
	"github.com/pullgate/pullgate/proxy"
	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/reason"
)

// appendDecision appends one line of JSON, of maxDecisionBytes at most: a longer
// one loses the ends of its findings and reasons. d is harmless, which makes
// this simple, and several times as fast as encoding/json: with every answer
// from memory being a decision, that counts.
func appendDecision(b []byte, d *proxy.Decision) []byte {
	from := len(b)
	if b = appendFields(b, d); len(b)-from <= maxDecisionBytes {
		return b
	}
	const most, long = 8, 200
	d.Findings, d.Reasons = d.Findings[:min(len(d.Findings), most)], d.Reasons[:min(len(d.Reasons), most)]
	for i, f := range d.Findings {
		d.Findings[i] = verify.Finding{
			Authority: show.Shorten(f.Authority, long),
			Passed:    f.Passed,
			Detail:    show.Shorten(f.Detail, long),
		}
	}
	for i, r := range d.Reasons {
		d.Reasons[i] = verify.Reason{
			Code:      reason.Code(show.Shorten(string(r.Code), long)),
			Authority: show.Shorten(r.Authority, long),
			Text:      show.Shorten(r.Text, long),
		}
	}
	for _, s := range textsOf(d) {
		*s = show.Shorten(*s, 1000)
	}
	return appendFields(b[:from], d)
}

func appendFields(b []byte, d *proxy.Decision) []byte {
	some := func(key, value string) { // left out when it is empty
		if value != "" {
			b = appendText(append(b, key...), value)
		}
	}
	b = append(b, `{"time":"`...)
	b = d.Time.AppendFormat(b, time.RFC3339Nano)
	b = appendText(append(b, `","id":`...), d.ID)
	b = appendText(append(b, `,"client":`...), d.Client)
	some(`,"agent":`, d.Agent)
	b = appendText(append(b, `,"method":`...), d.Method)
	b = appendText(append(b, `,"kind":`...), d.Kind)
	b = appendText(append(b, `,"image":`...), d.Image)
	b = appendText(append(b, `,"reference":`...), d.Reference)
	some(`,"digest":`, d.Digest)
	some(`,"parent":`, d.Parent)
	b = appendText(append(b, `,"outcome":`...), d.Outcome)
	b = strconv.AppendInt(append(b, `,"status":`...), int64(d.Status), 10)
	some(`,"policy":`, d.Policy)
	some(`,"policyHash":`, d.PolicyHash)
	for i, f := range d.Findings {
		b = appendText(append(b, opening(i, `,"findings":[{"authority":`)...), f.Authority)
		b = strconv.AppendBool(append(b, `,"passed":`...), f.Passed)
		b = append(appendText(append(b, `,"detail":`...), f.Detail), '}')
	}
	b = append(b, closing(len(d.Findings))...)
	for i, r := range d.Reasons {
		b = append(b, opening(i, `,"reasons":[{`)...)
		if r.Code != "" {
			b = append(appendText(append(b, `"code":`...), string(r.Code)), ',')
		}
		if r.Authority != "" {
			b = append(appendText(append(b, `"authority":`...), r.Authority), ',')
		}
		b = append(appendText(append(b, `"reason":`...), r.Text), '}')
	}
	b = append(b, closing(len(d.Reasons))...)
	some(`,"signer":`, d.Signer)
	if d.Unknown {
		b = append(b, `,"unknown":true`...)
	}
	some(`,"error":`, d.Error)
	b = strconv.AppendBool(append(b, `,"cache":`...), d.Cache)
	b = strconv.AppendFloat(append(b, `,"ms":`...), d.Took, 'f', -1, 64)
	b = strconv.AppendFloat(append(b, `,"upstreamMs":`...), d.Upstream, 'f', -1, 64)
	return append(b, "}\n"...)
}

// opening is what stands before the ith item of a list whose first one begins so.
func opening(i int, first string) string {
	if i == 0 {
		return first
	}
	_, item, _ := strings.Cut(first, "[")
	return "," + item
}

func closing(items int) string {
	if items == 0 {
		return ""
	}
	return "]"
}

// appendText quotes what is printable: two characters need a backslash.
func appendText(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(append(b, s[from:i]...), '\\')
			from = i
		}
	}
	return append(append(b, s[from:]...), '"')
}

// harmless is d with every text made printable, in slices of its own, and its
// time in UTC.
func harmless(d proxy.Decision) proxy.Decision {
	d.Time = d.Time.UTC()
	for _, s := range textsOf(&d) {
		*s = show.Printable(*s)
	}
	d.Findings, d.Reasons = slices.Clone(d.Findings), slices.Clone(d.Reasons)
	for i := range d.Findings {
		f := &d.Findings[i]
		f.Authority, f.Detail = show.Printable(f.Authority), show.Printable(f.Detail)
	}
	for i := range d.Reasons {
		r := &d.Reasons[i]
		r.Code = reason.Code(show.Printable(string(r.Code)))
		r.Authority, r.Text = show.Printable(r.Authority), show.Printable(r.Text)
	}
	return d
}

// textsOf are d's texts outside its lists.
func textsOf(d *proxy.Decision) [14]*string {
	return [...]*string{
		&d.ID,
		&d.Client,
		&d.Agent,
		&d.Method,
		&d.Kind,
		&d.Image,
		&d.Reference,
		&d.Digest,
		&d.Parent,
		&d.Outcome,
		&d.Policy,
		&d.PolicyHash,
		&d.Signer,
		&d.Error,
	}
}
