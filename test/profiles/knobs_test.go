package profiles_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pullgate/pullgate/test/profiles"
)

// plain is a registry with a realm on a sibling host, and nothing else to remark.
func plain() profiles.Profile {
	return profiles.Profile{
		Host:       "registry.acme.example",
		Repository: "team/app",
		Challenge: profiles.Challenge{
			Kind:    profiles.Bearer,
			Realm:   "https://auth.acme.example/token",
			Service: "registry",
		},
		Tokens: profiles.Tokens{Says: "300"},
		Absent: profiles.Absent{
			Hidden:     true,
			Unreadable: profiles.Refusal{Status: http.StatusUnauthorized, Code: "UNAUTHORIZED"},
		},
	}
}

// TestKnobs turns one knob of a plain registry after the other. Whatever a registry
// does there, a signed image is pulled and an unsigned one is not.
func TestKnobs(t *testing.T) {
	t.Parallel()
	for name, set := range knobs() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := plain()
			p.Name = name
			set(&p)
			g := newGate(t, p, usual(p))
			for _, part := range knobParts(name) {
				t.Run(part.name, func(t *testing.T) { part.run(g.on(t), g.profile) })
			}
		})
	}
}

// knobParts are the ways to pull that a knob can change.
func knobParts(name string) []part {
	parts := []part{{"cold", coldPull}, {"unsigned", pullUnsigned}}
	kind, _, _ := strings.Cut(name, ":")
	switch kind {
	case "challenge", "realm", "tokens":
		return append(parts, part{"expired", pullExpired}, part{"revoked", pullRevoked})
	case "blobs":
		return append(parts, part{"ranges", pullRanges}, part{"heads", headBlobs}, part{"late", pullBlobLate})
	case "referrers":
		return append(parts,
			part{"bundle, referrers", pullBundleByReferrers},
			part{"bundle, tag", pullBundleByTag},
			part{"list", listReferrers},
		)
	case "tags":
		return []part{{"tags", listTags}}
	}
	return append(parts,
		part{"bundle, tag", pullBundleByTag},
		part{"by digest", pullByDigest},
		part{"moved tag", pullMovedTag},
	)
}

type knob = func(*profiles.Profile)

func knobs() map[string]knob {
	all := map[string]knob{}
	for _, group := range []map[string]knob{challengeKnobs(), tokenKnobs(), manifestKnobs(), blobKnobs(), listKnobs()} {
		for name, set := range group {
			all[name] = set
		}
	}
	return all
}

func challengeKnobs() map[string]knob {
	kind := func(k profiles.Kind) knob { return func(p *profiles.Profile) { p.Challenge.Kind = k } }
	realm := func(at string) knob { return func(p *profiles.Profile) { p.Challenge.Realm = at } }
	return map[string]knob{
		"challenge: none":       kind(profiles.None),
		"challenge: password":   kind(profiles.BasicOnShow),
		"challenge: one field":  kind(profiles.OneField),
		"challenge: two fields": kind(profiles.TwoFields),
		"challenge: basic": func(p *profiles.Profile) {
			p.Challenge.Kind, p.AccountsOnly = profiles.Basic, true
		},
		"challenge: at /v2/ alone":   func(p *profiles.Profile) { p.Challenge.Silent = true },
		"challenge: without service": func(p *profiles.Profile) { p.Challenge.Service = "" },
		"challenge: small letters":   func(p *profiles.Profile) { p.Challenge.Scheme = "bearer" },
		"challenge: HTML":            func(p *profiles.Profile) { p.Challenge.Form = profiles.HTML },
		"realm: same host":           realm("https://registry.acme.example/token"),
		"realm: port 443":            realm("https://registry.acme.example:443/token"),
		"realm: another port":        realm("https://registry.acme.example:8443/token"),
		"realm: below the API":       realm("https://registry.acme.example/v2/token"),
		"realm: with a query":        realm("https://auth.acme.example/token?tenant=acme"),
		"realm: another domain":      realm("https://tokens.elsewhere.example/token"), // for guests
	}
}

func tokenKnobs() map[string]knob {
	says := func(s string) knob { return func(p *profiles.Profile) { p.Tokens.Says = s } }
	issued := func(d time.Duration) knob { return func(p *profiles.Profile) { p.Tokens.Issued = &d } }
	return map[string]knob{
		"tokens: access_token":    func(p *profiles.Profile) { p.Tokens.Fields = "access_token" },
		"tokens: both fields":     func(p *profiles.Profile) { p.Tokens.Fields = "token access_token" },
		"tokens: no expires_in":   says(""),
		"tokens: expires_in 0":    says("0"),
		"tokens: expires_in 300s": says(`"300"`),
		"tokens: for 30 s":        func(p *profiles.Profile) { p.Tokens.Says, p.Tokens.Life = "30", 30*time.Second },
		"tokens: for an hour":     func(p *profiles.Profile) { p.Tokens.Says, p.Tokens.Life = "3600", time.Hour },
		"tokens: JWT": func(p *profiles.Profile) {
			p.Tokens = profiles.Tokens{JWT: true, Life: time.Minute}
		},
		"tokens: issued before": issued(-time.Hour),
		"tokens: issued later":  issued(time.Hour),
	}
}

func manifestKnobs() map[string]knob {
	head := func(h profiles.Head) knob { return func(p *profiles.Profile) { p.Manifests.Head = h } }
	return map[string]knob{
		"head: without digest":  head(profiles.HeadWithoutDigest),
		"head: 405":             head(profiles.HeadNotAllowed),
		"head: 403":             head(profiles.HeadForbidden),
		"head: other length":    head(profiles.HeadOtherLength),
		"manifests: no digest":  func(p *profiles.Profile) { p.Manifests.NoDigest = true },
		"manifests: index type": func(p *profiles.Profile) { p.Manifests.NeedsIndexType = true },
		"manifests: moved": func(p *profiles.Profile) {
			p.Challenge.Kind, p.Manifests.MovedTo = profiles.None, "https://region.elsewhere.example/v2/all/"
		},
		"manifests: moved, lagging": func(p *profiles.Profile) {
			p.Challenge.Kind, p.Manifests.MovedTo = profiles.None, "https://region.elsewhere.example/v2/all/"
			p.Manifests.Lags = 1
		},
		"manifests: moved, guests": func(p *profiles.Profile) {
			p.Challenge.Kind, p.Manifests.MovedTo = profiles.None, "https://region.elsewhere.example/v2/all/"
			p.Manifests.GuestRealm = "https://region.elsewhere.example/v2/token"
		},
		"manifests: moved, behind a token": func(p *profiles.Profile) {
			p.AccountsOnly, p.Manifests.MovedTo = true, "https://other.acme.example/v2/"
			p.Manifests.GuestRealm = "https://auth.acme.example/guests"
		},
		"manifests: tags forbidden": func(p *profiles.Profile) {
			p.Absent.Tag = profiles.Refusal{Status: http.StatusForbidden, Code: "DENIED"}
		},
	}
}

func blobKnobs() map[string]knob {
	redirect := func(status int, to string, life time.Duration) knob {
		return func(p *profiles.Profile) {
			p.Blobs.Status, p.Blobs.To, p.Blobs.Life = status, to, life
		}
	}
	return map[string]knob{
		"blobs: 302":           redirect(http.StatusFound, "https://store.elsewhere.example/x/", time.Minute),
		"blobs: 307":           redirect(http.StatusTemporaryRedirect, "https://store.elsewhere.example/x/", time.Hour),
		"blobs: 303":           redirect(http.StatusSeeOther, "https://store.elsewhere.example/x/", time.Hour),
		"blobs: 308":           redirect(http.StatusPermanentRedirect, "https://store.elsewhere.example/x/", time.Hour),
		"blobs: relative":      redirect(http.StatusTemporaryRedirect, "/downloads/", time.Minute),
		"blobs: relative, 302": redirect(http.StatusFound, "/downloads/", time.Minute),
		"blobs: sibling host":  redirect(http.StatusFound, "https://store.acme.example/x/", time.Minute),
		"blobs: another port":  redirect(http.StatusFound, "https://registry.acme.example:8443/x/", time.Minute),
		"blobs: no ranges":     func(p *profiles.Profile) { p.Blobs.NoRanges = true },
		"blobs: GET alone": func(p *profiles.Profile) {
			redirect(http.StatusTemporaryRedirect, "https://store.elsewhere.example/x/", time.Hour)(p)
			p.Blobs.HeadForbidden = true
		},
	}
}

func listKnobs() map[string]knob {
	none := func(status int, form profiles.Form) knob {
		return func(p *profiles.Profile) {
			p.Referrers.None = profiles.Refusal{Status: status, Code: "UNSUPPORTED", Form: form}
		}
	}
	away := func(status, there int, to string) knob {
		return func(p *profiles.Profile) {
			p.Referrers = profiles.Referrers{AwayStatus: status, Away: to, There: there}
		}
	}
	pages := func(links profiles.Links) knob {
		return func(p *profiles.Profile) { p.Referrers = profiles.Referrers{Page: 2, Links: links} }
	}
	tags := func(how profiles.Tags) knob { return func(p *profiles.Profile) { p.Tags = how } }
	return map[string]knob{
		"referrers: 404 text":       none(http.StatusNotFound, profiles.Text),
		"referrers: 404 JSON":       none(http.StatusNotFound, profiles.JSON),
		"referrers: 404 empty":      none(http.StatusNotFound, profiles.Empty),
		"referrers: 400":            none(http.StatusBadRequest, profiles.JSON),
		"referrers: 405":            none(http.StatusMethodNotAllowed, profiles.Empty),
		"referrers: 501":            none(http.StatusNotImplemented, profiles.HTML),
		"referrers: 200 HTML":       none(http.StatusOK, profiles.HTML),
		"referrers: 303 to a 429":   away(http.StatusSeeOther, http.StatusTooManyRequests, "https://acme.example/x"),
		"referrers: 302 to a page":  away(http.StatusFound, http.StatusOK, "https://login.elsewhere.example/x"),
		"referrers: 302 to a 404":   away(http.StatusFound, http.StatusNotFound, "https://login.elsewhere.example/x"),
		"referrers: pages":          pages(profiles.Relative),
		"referrers: pages by URL":   pages(profiles.Absolute),
		"referrers: pages by proxy": pages(profiles.OtherHost),
		"referrers: untyped":        func(p *profiles.Profile) { p.Referrers.Untyped = true },
		"referrers: unfiltered":     func(p *profiles.Profile) { p.Referrers.IgnoresFilter = true },
		"referrers: 400 unknown":    func(p *profiles.Profile) { p.Referrers.UnknownSubject = http.StatusBadRequest },
		"tags: pages":               tags(profiles.Tags{Page: 300}),
		"tags: pages by URL":        tags(profiles.Tags{Page: 300, Links: profiles.Absolute}),
		"tags: pages by proxy":      tags(profiles.Tags{Page: 300, Links: profiles.OtherHost}),
		"tags: null":                tags(profiles.Tags{Page: 300, Nulls: true}),
		"tags: digests":             tags(profiles.Tags{Page: 300, Digests: true}),
		"tags: cut at 100":          tags(profiles.Tags{Page: 100, Most: 100}),
		"tags: at most 1000":        tags(profiles.Tags{Most: 1000, TooMany: http.StatusBadRequest}),
	}
}

// TestForeignRealm: a realm on another domain gets a guest's question, and no
// account.
func TestForeignRealm(t *testing.T) {
	t.Parallel()
	p := plain()
	p.Challenge.Realm = "https://tokens.elsewhere.example/token"
	for name, show := range map[string]*source{"password": password(), "identity token": identityToken()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGate(t, p, show)
			i := g.pushSigned(g.profile.Repository, "v1")

			g.manifest(i.repository, i.tag).
				refused(http.StatusBadGateway, "UNAVAILABLE", "an answer the gate cannot use")
			if n := len(g.registry.At(profiles.RealmEndpoint)); n != 0 {
				t.Errorf("the realm was asked %d times", n)
			}
			if !g.log.Say("list the host under auth.realms") {
				t.Error("the log does not say what to do")
			}
		})
	}
}

// TestRefusalForms: what a registry says in words, or in none, changes nothing; the
// status decides.
func TestRefusalForms(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]struct{ guest, account outcome }{
		http.StatusUnauthorized: {asksFor, refuses},
		http.StatusForbidden:    {refuses, refuses},
		http.StatusNotFound:     {notThere, notThere},
	} {
		for name, form := range map[string]profiles.Form{
			"JSON":  profiles.JSON,
			"text":  profiles.Text,
			"HTML":  profiles.HTML,
			"empty": profiles.Empty,
		} {
			t.Run(fmt.Sprintf("%d %s", status, name), func(t *testing.T) {
				t.Parallel()
				p := plain()
				p.Absent.Unreadable = profiles.Refusal{Status: status, Code: "X", Form: form}
				p.Challenge.Form = form
				for _, show := range []*source{nil, password()} {
					g := newGate(t, p, show)
					g.registry.Content().PushImage(g.other("foreign"), "v1")
					g.registry.Add(g.other("foreign"), profiles.Foreign)
					for _, repository := range []string{g.other("foreign"), g.other("missing")} {
						if show == nil {
							g.absent(repository, "v1", want.guest)
						} else {
							g.absent(repository, "v1", want.account)
						}
					}
				}
			})
		}
	}
}

// TestListedButMissing: a signature that a registry lists and does not have admits
// nothing, and the refusal says what is wrong, which is not that there is none.
func TestListedButMissing(t *testing.T) {
	t.Parallel()
	const says = " lists an artifact that the registry does not have"
	for name, sign := range map[string]func(*gate, image){
		"the referrers API": func(g *gate, i image) { g.attach(i) },
		"the referrers tag": (*gate).list,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := plain()
			p.Manifests.Lags = 1
			g := newGate(t, p, nil)
			i := g.push(g.profile.Repository, "v1")
			sign(g, i)

			message := g.manifest(i.repository, i.tag).refused(http.StatusForbidden, "DENIED", name+says)
			if strings.Contains(message, "no signature found") {
				t.Error(message)
			}
			g.clock.advance(time.Minute) // denials are remembered for 30 s
			g.head(i)
		})
	}
}
