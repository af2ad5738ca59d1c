package imports

import (
	"slices"
	"strings"
)

// cipEvidence is what an authority of a ClusterImagePolicy says of CA, logs and
// timestamps.
type cipEvidence struct {
	keyless        bool
	ca, log, stamp rootPart
	publicLog      bool   // ctlog names Sigstore's public log
	noLog          *value // ctlog: {}
	noSCT          *value // insecureIgnoreSCT
}

// rootPart is where a part of a trust root comes from. The zero value is
// Sigstore's public instance, or nothing for a timestamp.
type rootPart struct {
	ref     string // the TrustRoot
	address string // of the service, without a TrustRoot
	written string // the certificate stands here
}

func (p rootPart) isOwn() bool { return p != rootPart{} }

// refer reads trustRootRef. What a TrustRoot holds can be told from its
// document alone.
func (p *rootPart) refer(v value) {
	p.ref = v.text()
	p.address = ""
	if p.ref != "" && !v.r.documented[p.ref] {
		v.refuse(
			"names the TrustRoot %q, which is in none of the files: add its document (kubectl get trustroot %s "+
				"-o yaml)",
			p.ref,
			p.ref,
		)
	}
}

func (e *cipEvidence) readLog(v value) {
	address := ""
	v.object(fields{
		"url":          func(f value) { address = f.text() },
		"trustRootRef": e.log.refer,
	})

	switch {
	case e.log.ref != "":
	case address == "":
		e.noLog = &v
	case !isAt(address, publicRekor):
		e.log.address = address
	default:
		e.publicLog = true
	}
}

func (e *cipEvidence) readTimestamp(v value) {
	v.object(fields{"trustRootRef": e.stamp.refer})
}

// ofKeys settles what signatures by keys must bring. In policy-controller a
// timestamp takes the place of the log's entry.
func (e *cipEvidence) ofKeys(v value, a *authority) {
	switch {
	case e.stamp.isOwn():
		a.stamp, a.root = true, e.root(v, "", e.stamp)
	case e.log.isOwn():
		a.log, a.root = true, e.root(v, "", e.log)
	case e.publicLog:
		a.log = true
	}
}

// ofIdentities settles the trust root of keyless signatures, and what they must
// bring; fallback names a root that the source does not name.
func (e *cipEvidence) ofIdentities(v value, a *authority, fallback string) {
	if e.noLog != nil {
		e.noLog.lose("is stricter here: a trust root with transparency logs demands an entry")
	}
	if !e.ca.isOwn() && !e.log.isOwn() && !e.stamp.isOwn() {
		return // Sigstore's public instance, the default
	}

	a.roots = []string{e.root(v, fallback, e.ca, e.log, e.stamp)}
	a.log = !e.stamp.isOwn() && e.noLog == nil
	a.stamp = e.stamp.isOwn()
}

// root asks for the one trust root that all parts belong to.
func (e *cipEvidence) root(v value, fallback string, parts ...rootPart) string {
	var refs, others []string
	for _, p := range parts {
		switch {
		case p.ref != "" && !slices.Contains(refs, p.ref):
			refs = append(refs, p.ref)
		case p.address != "":
			others = append(others, p.address)
		case p.written != "":
			others = append(others, "the certificate written here")
		}
	}
	if e.publicLog && len(parts) > 1 {
		others = append(others, publicRekor)
	}

	switch {
	case len(refs) > 1 || len(refs) == 1 && len(others) > 0:
		v.refuse(
			"names %s: an authority has one trust root here, which holds CA, logs and timestamp authority; put the "+
				"keys and certificates of all into one TrustRoot, and name it as trustRootRef in keyless, ctlog and "+
				"rfc3161timestamp",
			strings.Join(append(refs, others...), " and "),
		)
		return ""
	case len(refs) == 1:
		return v.trust(refs[0], refs[0], "the TrustRoot of that name")
	}

	name, of := fallback, others
	for i := len(parts) - 1; i >= 0; i-- {
		if parts[i].address != "" {
			name = hostOf(parts[i].address)
		}
		of = append(of, parts[i].written)
	}
	what := strings.Join(others, " and ")
	if len(others) > 1 {
		what += " together, as a TrustRoot would be that keyless and ctlog both name by trustRootRef"
	}
	return v.trust(name, strings.Join(of, "\n"), what)
}
