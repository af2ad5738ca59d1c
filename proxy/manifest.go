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
func (x *exchange) serveManifest() error {
	image := policy.Image{Repository: x.request.repo, Reference: x.request.ref}
	m, v, err := x.snapshot.Gate.Manifest(x.ctx, image, x.request.client)
	if err != nil {
		return err
	}
	if err := x.judged(v); err != nil {
		return err
	}
	x.writeManifest(m, v)
	return nil
}

// writeManifest answers with an admitted manifest. All header values that
// differ between answers share one slice, which saves an allocation for each.
func (x *exchange) writeManifest(m oci.Manifest, v verify.Verdict) {
	h := x.w.Header()
	etag := `"` + m.Digest.String() + `"`
	values := []string{m.MediaType, m.Digest.String(), etag, strconv.Itoa(len(m.Bytes)), x.obs.id}
	h["Content-Type"] = values[0:1:1]
	h["Docker-Content-Digest"] = values[1:2:2]
	h["Etag"] = values[2:3:3]
	h["Pullgate-Decision"] = values[4:5:5]
	h["Cache-Control"] = revalidate
	h["X-Content-Type-Options"] = nosniff
	x.setWarning(v)

	if matches(x.request.ifNoneMatch, etag) { // only now: after the decision
		x.w.WriteHeader(http.StatusNotModified)
		return
	}

	h["Content-Length"] = values[3:4:4]
	x.w.WriteHeader(http.StatusOK)
	writeBody(x.w, x.method, m.Bytes)
}

// setWarning tells the client what enforce would have refused (distribution
// spec, "Warnings": at most 4096 bytes, quoted-string).
func (x *exchange) setWarning(v verify.Verdict) {
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
	x.w.Header().Set("Warning", `299 - "`+text+`"`)
}

// matches reports whether an If-None-Match header lists etag, compared weakly
// (RFC 9110, section 13.1.2).
func matches(header, etag string) bool {
	for candidate := range strings.SplitSeq(header, ",") {
		if strings.TrimPrefix(strings.TrimSpace(candidate), "W/") == etag {
			return true
		}
	}
	return false
}
