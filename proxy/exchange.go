package proxy

import (
	"context"
	"errors"
	"net/http"

	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/oci"
)

// exchange is one request from its first byte to its log line. It has no
// *http.Request: what a handler may know of the client's message was parsed
// before the exchange began, and ctx is the only context. It belongs to the
// goroutine that serves the request.
type exchange struct {
	ctx      context.Context // ends when the client leaves; carries the span
	snapshot *Snapshot       // the same one to the request's end
	streams  *streams        // of all requests
	w        http.ResponseWriter
	method   string  // GET or HEAD
	request  request // no more than its client when it could not be parsed
	obs      observation
}

// serve answers the request, or returns the error that refuse has to answer.
func (x *exchange) serve() error {
	if err := x.mayRead(); err != nil {
		return err
	}

	switch x.request.kind {
	case manifestKind:
		return x.serveManifest()
	case blobKind:
		return x.serveBlob()
	case tagsKind:
		return x.serveTags()
	case referrersKind:
		return x.serveReferrers()
	}
	return notFound("no such route")
}

// judged notes the gate's verdict, and returns its refusal unless it admits.
func (x *exchange) judged(v verify.Verdict) error {
	x.obs.judged, x.obs.result = true, v
	if !v.Admitted() {
		return denied(v, x.obs.id)
	}
	return nil
}

// refuse answers with an error of serve, or cuts the connection when an answer
// has begun: returning would then end that answer cleanly, as a 200 that no
// verdict covers.
func (x *exchange) refuse(err error, canaries *canaries) {
	var truncated *truncatedError
	if errors.As(err, &truncated) || x.ctx.Err() != nil {
		panic(http.ErrAbortHandler)
	}

	if x.obs.judged {
		canaries.count(x.w, x.request.client, x.obs.result)
	}

	e := *asHTTPError(err)
	switch e.status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusBadGateway, http.StatusServiceUnavailable:
		x.sign(&e, err)
	default:
		if x.obs.judged {
			x.setDecision()
		}
	}
	e.write(x.w, x.method)
}

// sign ends a refusal with what its reader needs next: the decision's id, which
// leads to the whole reason, and the admin's own sentence. What a registry
// refuses, and a client that is not known, are no decisions of the gate's, so they
// have no id.
func (x *exchange) sign(e *httpError, err error) {
	var failure *oci.UpstreamError
	switch {
	case isUnidentified(err):
		e.message += "."
	case e.status != http.StatusForbidden || !errors.As(err, &failure):
		x.setDecision()
		e.message += " (decision " + x.obs.id + ")"
	}
	if x.snapshot.Help != "" {
		e.message += " " + x.snapshot.Help
	}
}

// setDecision puts the decision's id into the answer. Every answer that carries
// a decision has it, and every one whose reason only the log has: old
// containerd shows its user nothing but the status line.
func (x *exchange) setDecision() {
	x.w.Header().Set("Pullgate-Decision", x.obs.id)
}

// writeBody sends what an answer to HEAD leaves out.
func writeBody(w http.ResponseWriter, method string, body []byte) {
	if method != http.MethodHead {
		_, _ = w.Write(body) // a client that left needs no answer
	}
}
