package proxy

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/oci"
)

// serveManifest resolves once, judges those bytes, and serves those bytes.
// HEAD waits for the same verdict: a client with a warm store asks nothing else.
func serveManifest(s *Snapshot, w http.ResponseWriter, r *http.Request, req request, seen *observation) error {
	m, v, err := s.Gate.Manifest(seen.ctx, policy.Image{Repository: req.repo, Reference: req.ref}, req.client)
	if err != nil {
		return err
	}
	seen.verdict(v)
	if !v.Admitted() {
		return denied(v, seen.id)
	}
	writeManifest(w, r, m, v, seen)
	return nil
}

func writeManifest(w http.ResponseWriter, r *http.Request, m oci.Manifest, v verify.Verdict, seen *observation) {
	h := w.Header()
	etag := `"` + m.Digest.String() + `"`
	values := []string{m.MediaType, m.Digest.String(), etag, strconv.Itoa(len(m.Bytes)), seen.id}
	h["Content-Type"], h["Docker-Content-Digest"], h["Etag"] = values[0:1:1], values[1:2:2], values[2:3:3]
	h["Cache-Control"], h["X-Content-Type-Options"] = revalidate, nosniff
	h["Pullgate-Decision"] = values[4:5:5]
	setWarning(w, v)
	if matches(r.Header.Get("If-None-Match"), etag) { // only now: after the decision
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h["Content-Length"] = values[3:4:4]
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(m.Bytes) // a client that left needs no answer
	}
}

// setWarning tells the client what enforce would have refused (distribution
// spec, "Warnings": at most 4096 bytes, quoted-string).
func setWarning(w http.ResponseWriter, v verify.Verdict) {
	if v.Outcome != verify.Warned && v.Outcome != verify.WarnedUnverified {
		return
	}
	text := strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}, v.Message())
	text = strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text[:min(len(text), 2000)])
	w.Header().Set("Warning", `299 - "`+text+`"`)
}

func matches(header, etag string) bool {
	for candidate := range strings.SplitSeq(header, ",") {
		if strings.TrimPrefix(strings.TrimSpace(candidate), "W/") == etag { // RFC 9110, section 13.1.2: compared weakly
			return true
		}
	}
	return false
}
