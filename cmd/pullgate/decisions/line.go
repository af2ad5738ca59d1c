package decisions

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/pullgate/pullgate/cmd/pullgate/show"
	"github.com/pullgate/pullgate/verify/reason"
)

// maxLineBytes bounds a line, its newline included.
const maxLineBytes = 64 << 10

// What is left of a record that would not fit into a line.
const (
	shortListItems = 8
	shortItemBytes = 200  // of each text of a finding or a reason
	shortTextBytes = 1000 // of each other text
)

// appendLine appends r as one line of JSON, of maxLineBytes at most: a longer one
// loses the ends of its findings and reasons. The texts of r are printable, so
// that writing them is simple, and several times as fast as encoding/json. That
// counts, because every answer from memory is a decision too.
func appendLine(b []byte, r *Record) []byte {
	from := len(b)
	if b = appendFields(b, r); len(b)-from <= maxLineBytes {
		return b
	}

	r.shorten()
	return appendFields(b[:from], r)
}

func (r *Record) shorten() {
	r.Findings = r.Findings[:min(len(r.Findings), shortListItems)]
	for i, f := range r.Findings {
		r.Findings[i].Authority = show.Shorten(f.Authority, shortItemBytes)
		r.Findings[i].Detail = show.Shorten(f.Detail, shortItemBytes)
	}

	r.Reasons = r.Reasons[:min(len(r.Reasons), shortListItems)]
	for i, why := range r.Reasons {
		r.Reasons[i].Code = reason.Code(show.Shorten(string(why.Code), shortItemBytes))
		r.Reasons[i].Authority = show.Shorten(why.Authority, shortItemBytes)
		r.Reasons[i].Reason = show.Shorten(why.Reason, shortItemBytes)
	}

	for _, s := range r.texts() {
		*s = show.Shorten(*s, shortTextBytes)
	}
}

func appendFields(b []byte, r *Record) []byte {
	b = append(b, `{"time":"`...)
	b = r.Time.AppendFormat(b, time.RFC3339Nano)
	b = appendText(append(b, `","id":`...), r.ID)
	b = appendText(append(b, `,"client":`...), r.Client)
	b = appendOptional(b, `,"clientName":`, r.ClientName)
	b = appendOptional(b, `,"agent":`, r.Agent)
	b = appendText(append(b, `,"method":`...), r.Method)
	b = appendText(append(b, `,"kind":`...), r.Kind)
	b = appendText(append(b, `,"image":`...), r.Image)
	b = appendText(append(b, `,"reference":`...), r.Reference)
	b = appendOptional(b, `,"path":`, r.Path)
	b = appendOptional(b, `,"digest":`, r.Digest)
	b = appendOptional(b, `,"parent":`, r.Parent)

	b = appendText(append(b, `,"outcome":`...), r.Outcome)
	b = strconv.AppendInt(append(b, `,"status":`...), int64(r.Status), 10)
	b = appendOptional(b, `,"policy":`, r.Policy)
	b = appendOptional(b, `,"policyHash":`, r.PolicyHash)
	b = appendFindings(b, r.Findings)
	b = appendReasons(b, r.Reasons)
	b = appendOptional(b, `,"signer":`, r.Signer)
	if r.Unknown {
		b = append(b, `,"unknown":true`...)
	}
	b = appendOptional(b, `,"error":`, r.Error)

	b = strconv.AppendBool(append(b, `,"cache":`...), r.Cache)
	b = strconv.AppendFloat(append(b, `,"ms":`...), r.Took, 'f', -1, 64)
	b = strconv.AppendFloat(append(b, `,"upstreamMs":`...), r.Upstream, 'f', -1, 64)
	return append(b, "}\n"...)
}

func appendFindings(b []byte, list []Finding) []byte {
	if len(list) == 0 {
		return b
	}

	before := `,"findings":[`
	for _, f := range list {
		b = appendText(append(append(b, before...), `{"authority":`...), f.Authority)
		b = strconv.AppendBool(append(b, `,"passed":`...), f.Passed)
		b = append(appendText(append(b, `,"detail":`...), f.Detail), '}')
		before = ","
	}
	return append(b, ']')
}

func appendReasons(b []byte, list []Reason) []byte {
	if len(list) == 0 {
		return b
	}

	before := `,"reasons":[`
	for _, r := range list {
		b = append(append(b, before...), '{')
		if r.Code != "" {
			b = append(appendText(append(b, `"code":`...), string(r.Code)), ',')
		}
		if r.Authority != "" {
			b = append(appendText(append(b, `"authority":`...), r.Authority), ',')
		}
		b = append(appendText(append(b, `"reason":`...), r.Reason), '}')
		before = ","
	}
	return append(b, ']')
}

// appendOptional leaves out a field that is empty.
func appendOptional(b []byte, key, value string) []byte {
	if value == "" {
		return b
	}
	return appendText(append(b, key...), value)
}

// appendText quotes a printable text, in which only two characters need a
// backslash.
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

// parseLine reads a line, which is untrusted: it may stand in any file. It
// reports whether the line is a record.
func parseLine(line []byte) (Record, bool) {
	var r Record
	if len(line) > maxLineBytes || json.Unmarshal(line, &r) != nil {
		return r, false
	}
	if r.ID == "" || r.Kind == "" || !slices.Contains(Outcomes(), r.Outcome) {
		return r, false
	}

	r.sanitize()
	return r, true
}
