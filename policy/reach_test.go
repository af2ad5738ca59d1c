package policy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// unreachableSimply is reach.unreachable without an index: it asks every
// earlier policy about every glob and digest.
func unreachableSimply(p *Policy, earlier []*Policy) []*Policy {
	images := p.Images
	if len(images) == 0 {
		images = []Glob{{text: "*/**", tokens: compileGlob("*/**")}}
	}

	covers := func(q *Policy, g Glob, d string, c Clients) bool {
		if len(q.Clients) > 0 && !slices.ContainsFunc(q.Clients, func(w Clients) bool { return w.Covers(c) }) {
			return false
		}
		if len(q.Digests) > 0 && !slices.Contains(q.Digests, d) {
			return false
		}
		return len(q.Images) == 0 || slices.ContainsFunc(q.Images, func(w Glob) bool { return w.Covers(g) })
	}

	var by []*Policy
	for _, g := range images {
		for _, d := range digestsOf(p) {
			for _, c := range clientsOf(p) {
				i := slices.IndexFunc(earlier, func(q *Policy) bool { return covers(q, g, d, c) })
				if i < 0 {
					return nil
				}
				by = append(by, earlier[i])
			}
		}
	}

	return slices.Compact(by)
}

// The index changes no result: every list of policies gets the same findings,
// in the same order, as from asking each about each.
func TestReach(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	segment := func() string { return pick("a", "ab", "a*", "*", "**", "b", "*b", "a*b", "a**") }
	found := map[int]int{} // number of policies named, how often
	for range 5000 {
		r := newReach()
		for n := range 12 {
			p := &Policy{Name: fmt.Sprint(n)}
			for range random.IntN(3) {
				text := pick("r.io", "r.i*", "*", "s.io", "docker.io") + "/" + segment()
				for range random.IntN(3) {
					text += "/" + segment()
				}
				if random.IntN(20) == 0 {
					text = "**"
				}
				if g, err := ParseGlob(text); err == nil {
					p.Images = append(p.Images, g)
				}
			}

			for range random.IntN(6) - 3 {
				p.Digests = append(p.Digests, testDigest('1'+rune(random.IntN(3))))
			}

			for range max(0, random.IntN(6)-3) {
				p.Clients = append(p.Clients, clients(t, pick("user:a", "user:*", "cn:*", "10.0.0.0/8", "10.1.0.0/16")))
			}

			got, want := r.unreachable(p), unreachableSimply(p, r.policies)
			if !slices.Equal(got, want) {
				t.Fatalf(
					"policy %s after %s: unreachable for %s, want %s",
					inWords(p),
					inWords(r.policies...),
					inWords(got...),
					inWords(want...),
				)
			}

			found[len(got)]++
			if len(p.Images)+len(p.Digests) > 0 || random.IntN(30) == 0 { // seldom one that leaves nothing
				r.add(p)
			}
		}
	}

	if found[0] < 1000 || found[1] < 1000 || found[2] < 100 {
		t.Errorf("policies named, how often: %v: the lists show too little", found)
	}
}

func inWords(list ...*Policy) string {
	text := ""
	for _, p := range list {
		text += fmt.Sprintf("{%s: %s %.9s}", p.Name, p.Images, p.Digests)
	}
	return text
}

// Lists that are long in every way there is: many hosts, one namespace, and
// digests alone. Time per policy should not grow with the list.
func BenchmarkReach(b *testing.B) {
	for name, policy := range map[string]func(n int) *Policy{
		"hosts": func(n int) *Policy {
			return &Policy{Images: []Glob{benchGlob(b, fmt.Sprintf("r%d.example/app/**", n))}}
		},
		"one namespace": func(n int) *Policy {
			return &Policy{Images: []Glob{benchGlob(b, fmt.Sprintf("reg.example/team/app%05d/*", n))}}
		},
		"digests": func(n int) *Policy { return &Policy{Digests: []string{fmt.Sprintf("sha256:%064x", n)}} },
	} {
		for _, count := range []int{100, 1000, 10_000} {
			var list []*Policy
			for n := range count {
				list = append(list, policy(n))
			}

			b.Run(fmt.Sprintf("%s/%d", name, count), func(b *testing.B) {
				for b.Loop() {
					r := newReach()
					for _, p := range list {
						if r.unreachable(p) != nil {
							b.Fatal("all can be reached")
						}
						r.add(p)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*count), "ns/policy")
			})
		}
	}
}

func benchGlob(b *testing.B, text string) Glob {
	g, err := ParseGlob(text)
	if err != nil {
		b.Fatal(err)
	}
	return g
}
