package imports

import (
	"slices"
	"strings"
)

// evidence is what a source says of logs and timestamps.
type evidence struct {
	noLog, noSCT bool
	own          string // names a trust root when it is not Sigstore's public one
	stamp        bool
	of           []string // what that trust root is made of
}

// root asks for the trust root that is not Sigstore's public one.
func (e *evidence) root(v value) string {
	slices.Sort(e.of)
	return v.trust(
		e.own,
		strings.Join(e.of, ""),
		"the logs, certificates and timestamp authorities that the source names",
	)
}

// made says that a field becomes a part of the trust root of that name.
func (e *evidence) made(f value, name string) {
	e.own = name
	e.of = append(e.of, f.words())
}

func (e *evidence) rekor(name string) func(value) {
	return func(v value) {
		v.object(fields{
			"url": func(f value) {
				if !isAt(f.text(), publicRekor) && f.text() != "" {
					e.made(f, hostOf(f.text()))
				}
			},
			"pubkey": func(f value) {
				e.made(f, name)
				f.lose("the log's key has to be put into a trust root: see trustRoots")
			},
			"ignoreTlog": func(f value) { e.noLog = f.flag() },
		})
	}
}

func (e *evidence) ctlog(name string) func(value) {
	return func(v value) {
		v.object(fields{
			"ignoreSCT": func(f value) { e.noSCT = f.flag() },
			"pubkey": func(f value) {
				e.made(f, name)
				f.lose("the log's key has to be put into a trust root: see trustRoots")
			},
			"tsaCertChain": func(f value) {
				e.stamp = true
				e.made(f, name)
				f.lose("the chain has to be put into a trust root: see trustRoots")
			},
		})
	}
}

// ofKeys settles what signatures by keys must bring.
func (e *evidence) ofKeys(v value, a *authority) {
	a.log, a.stamp = !e.noLog, e.stamp
	if e.own != "" && (a.log || a.stamp) {
		a.root = e.root(v)
	}
}

// ofIdentities settles what keyless signatures must bring.
func (e *evidence) ofIdentities(v value, a *authority) {
	if e.noLog {
		v.lose("ignoring the transparency log is stricter here: a trust root with logs demands an entry")
	}
	if e.noSCT {
		v.lose("ignoring SCTs is stricter here: a trust root with CT logs demands one")
	}
	if e.own == "" {
		return
	}

	a.roots = []string{e.root(v)}
	a.log, a.stamp = !e.noLog, e.stamp
}
