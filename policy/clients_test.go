package policy

import (
	"strings"
	"testing"
)

func clients(t testing.TB, text string) Clients {
	t.Helper()
	c, err := ParseClients(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestClientsMatch(t *testing.T) {
	t.Parallel()
	const node = "spiffe://acme.example/node/1"
	for _, row := range []struct {
		pattern, name, addr string
		want                bool
	}{
		{"user:ci", "user:ci", "", true},
		{"user:ci", "user:ci2", "", false},
		{"user:ci", "user:CI", "", false},
		{"user:ci", "cn:ci", "", false},
		{"user:*", "user:ci", "", true},
		{"user:*", "user:", "", true}, // no way yields such a name
		{"user:*", "user:a/b", "", false},
		{"user:**", "user:a/b", "", true},
		{"user:*", "", "10.1.2.3", false},
		{"user:**", "", "", false},
		{"cn:node-*.prod", "cn:node-1.prod", "", true},
		{"cn:node-*.prod", "cn:node-1.prod.evil", "", false},
		{"cn:node-*.prod", "dns:node-1.prod", "", false},
		{"dns:Node.Prod", "dns:node.prod", "", true},
		{"sub:system:serviceaccount:prod:*", "sub:system:serviceaccount:prod:puller", "", true},
		{"sub:system:serviceaccount:prod:*", "sub:system:serviceaccount:production:puller", "", false},
		{"spiffe://acme.example/node/*", node, "", true},
		{"spiffe://acme.example/node/*", node + "/x", "", false},
		{"spiffe://acme.example/node/*", "spiffe://acme.example.evil/node/1", "", false},
		{"spiffe://acme.example/**", node, "", true},
		{"10.1.0.0/16", "", "10.1.2.3", true},
		{"10.1.0.0/16", "user:ci", "10.1.2.3", true},
		{"10.1.0.0/16", "", "::ffff:10.1.2.3", true},
		{"10.1.0.0/16", "", "10.2.2.3", false},
		{"10.1.0.0/16", "user:10.1.2.3", "192.0.2.1", false},
		{"10.1.0.0/16", "", "", false},
		{"10.1.0.0/16", "", "10.1.2.3:5000", false},
		{"10.1.2.3", "", "10.1.2.3", true},
		{"10.1.2.3", "", "10.1.2.4", false},
		{"fe80::/10", "", "fe80::1%eth0", true},
		{"2001:db8::/32", "", "2001:db8::1", true},
		{"0.0.0.0/0", "", "2001:db8::1", false},
	} {
		if got := clients(t, row.pattern).Match(Client{Addr: row.addr, Name: row.name}); got != row.want {
			t.Errorf("%s matches %q at %q: %v", row.pattern, row.name, row.addr, got)
		}
	}
	if (Clients{}).Match(Client{}) || (Clients{}).Match(Client{Name: "user:a", Addr: "10.0.0.1"}) {
		t.Error("the zero pattern matches a client")
	}
}

func TestParseClientsErrors(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string]string{
		"":                    "no pattern of clients",
		"ci":                  "no pattern of clients",
		"*":                   "names its kind",
		"**":                  "names its kind",
		"*:ci":                "names its kind",
		"us*r:ci":             "names its kind",
		"usr:ci":              `"usr" is no kind`,
		"User:ci":             `"User" is no kind`,
		"user:":               "no pattern of clients",
		"user://ci":           "no pattern of clients",
		"user:***":            "no wildcard",
		"user:a\nb":           "no kind",
		"spiffe:node":         `"spiffe" is no kind`,
		"spiffe://":           "no pattern of clients",
		"10.1.2.3/16":         "write 10.1.0.0/16",
		"10.1.0.0/33":         "no pattern of clients",
		"::ffff:10.1.0.0/112": "write it as IPv4",
		"10.1.0.0-10.1.0.9":   "no pattern of clients",
		"cn:" + strings.Repeat("a", MaxClientName): "no kind",
	} {
		c, err := ParseClients(pattern)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", pattern, err, want)
		}
		if !c.isZero() {
			t.Errorf("%.40q: an error and %v", pattern, c)
		}
	}
}

func TestParseClient(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Client{
		"10.1.2.3":                     {Addr: "10.1.2.3"},
		"::ffff:10.1.2.3":              {Addr: "10.1.2.3"},
		"user:ci":                      {Name: "user:ci"},
		"spiffe://acme.example/node/1": {Name: "spiffe://acme.example/node/1"},
		"urn:uuid:1":                   {Name: "urn:uuid:1"},
		"ci":                           {},
		"user:":                        {},
		"user://ci":                    {},
		"urn:":                         {},
		"Spiffe://acme.example/x":      {},
		"10.1.0.0/16":                  {},
		"":                             {},
	} {
		got, err := ParseClient(text)
		if got != want || (err == nil) != (want != Client{}) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

// What Covers affirms, Match has to bear out.
func TestClientsCover(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		wide, narrow string
		want         bool
	}{
		{"user:*", "user:ci", true},
		{"user:ci", "user:*", false},
		{"user:**", "user:*", true},
		{"user:*", "user:**", false},
		{"user:*", "cn:ci", false},
		{"10.0.0.0/8", "10.1.0.0/16", true},
		{"10.1.0.0/16", "10.0.0.0/8", false},
		{"10.0.0.0/8", "10.1.2.3", true},
		{"10.0.0.0/8", "::/0", false},
		{"0.0.0.0/0", "user:ci", false},
		{"user:**", "10.0.0.0/8", false},
	} {
		if got := clients(t, row.wide).Covers(clients(t, row.narrow)); got != row.want {
			t.Errorf("%s covers %s: %v", row.wide, row.narrow, got)
		}
	}
}

func TestSetForClients(t *testing.T) {
	t.Parallel()
	bad, one := testDigest('1'), testDigest('2')
	set := load(t, `
- {name: bad, digests: ["`+bad+`"], clients: ["user:ci"], static: deny}
- {name: tools, images: ["a.b/tools"], clients: ["user:ci", "10.1.0.0/16"], static: allow}
- {name: shut, images: ["a.b/shut"], clients: ["10.1.0.0/16"], static: deny}
- {name: keyed, images: ["a.b/**"], clients: ["cn:*", "10.1.0.0/16"], authorities: [{key: a.pub}]}
`, "deny")
	ci, cn := Client{Name: "user:ci", Addr: "192.0.2.1"}, Client{Name: "cn:x", Addr: "192.0.2.2"}
	near, stranger := Client{Addr: "10.1.2.3"}, Client{Addr: "192.0.2.3"}
	for _, row := range []struct {
		repo, digest string
		client       Client
		want         string
		could        bool
		denied       int
	}{
		{"a.b/tools", one, ci, "tools", true, 1},
		{"a.b/tools", one, near, "tools", true, 0},
		{"a.b/tools", one, cn, "keyed", true, 0},
		{"a.b/tools", one, stranger, "defaultAction", false, 0},
		{"a.b/tools", one, Client{}, "defaultAction", false, 0},
		{"a.b/tools", bad, ci, "bad", true, 1},
		{"a.b/tools", bad, near, "tools", true, 0},
		{"a.b/shut", one, near, "shut", false, 0},
		{"a.b/shut", one, cn, "keyed", true, 0},
		{"a.b/other", one, ci, "defaultAction", false, 1},
	} {
		at := repo(t, row.repo)
		if got := set.For(at, row.digest, row.client); got.Name != row.want {
			t.Errorf("%s@%.12s for %s: %s decides, want %s", row.repo, row.digest, row.client, got.Name, row.want)
		}
		if got := set.CouldAllow(at, row.client); got != row.could {
			t.Errorf("%s could be allowed to %s: %v", row.repo, row.client, got)
		}
		if got := set.Opens(at, row.client); got != row.could {
			t.Errorf("%s opens to %s: %v", row.repo, row.client, got)
		}
		if got := set.DeniedDigests(at, row.client); len(got) != row.denied {
			t.Errorf("denied to %s in %s: %v", row.client, row.repo, got)
		}
	}
}

// A policy for some clients leaves something to one for others, and for
// everybody.
func TestReachableClients(t *testing.T) {
	t.Parallel()
	const image = `images: ["a.b/**"], static: deny`
	for name, row := range map[string]struct {
		yaml, by string // the policies before the last that leave it nothing
	}{
		"some, then everybody": {`[{name: a, clients: ["user:*"], ` + image + `}, {name: b, ` + image + `}]`, ""},
		"all networks, then all": {
			`[{name: a, clients: ["0.0.0.0/0", "::/0"], ` + image + `}, {name: b, ` + image + `}]`,
			"",
		},
		"everybody, then some": {`[{name: a, ` + image + `}, {name: b, clients: ["user:*"], ` + image + `}]`, `"a"`},
		"wide, then narrow": {
			`[{name: a, clients: ["user:*"], ` + image + `}, {name: b, clients: ["user:ci"], ` + image + `}]`, `"a"`,
		},
		"narrow, then wide": {
			`[{name: a, clients: ["user:ci"], ` + image + `}, {name: b, clients: ["user:*"], ` + image + `}]`, "",
		},
		"one of two": {
			`[{name: a, clients: ["user:ci"], ` + image + `},
			  {name: b, clients: ["user:ci", "cn:x"], ` + image + `}]`, "",
		},
		"two together": {
			`[{name: a, clients: ["user:ci"], ` + image + `}, {name: b, clients: ["cn:*"], ` + image + `},
			  {name: c, clients: ["user:ci", "cn:x"], ` + image + `}]`, `"a" (config.yaml:1) and "b"`,
		},
		"digests": {
			`[{name: a, clients: ["user:ci"], digests: ["` + testDigest('1') + `"], static: deny},
			  {name: b, digests: ["` + testDigest('1') + `"], static: deny},
			  {name: c, clients: ["user:ci"], digests: ["` + testDigest('1') + `"], static: deny}]`, `"a"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, problems := Load(Input{ConfigFile: "config.yaml", Dir: keyDir(t), Inline: node(t, row.yaml)})
			if row.by == "" && len(problems) > 0 {
				t.Errorf("problems %v", problems)
			}
			if row.by != "" && (len(problems) != 1 || !strings.Contains(problems[0].Message, row.by)) {
				t.Errorf("problems %v, want one about %s", problems, row.by)
			}
		})
	}
}
