package policy

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// The index finds what going through the list in order finds.
func TestIndex(t *testing.T) {
	t.Parallel()
	globs := []string{
		"**",
		"*/**",
		"a.example/**",
		"a.example/team/**",
		"a.example/team/app",
		"a.example/team/*",
		"a.example/t*/app",
		"a.example/app",
		"*.example/team/app",
		"b.example/team/**",
		"a.example/**/app",
		"b.example/other/app",
	}
	names := []string{
		"a.example/team/app",
		"a.example/team/sub/app",
		"a.example/app",
		"b.example/team/app",
		"b.example/other/app",
		"c.example/x",
		"a.example/tea/app",
	}
	digests := []string{"", testDigest('1'), testDigest('2')}
	random := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		s := &Set{}
		for i := range 1 + random.IntN(6) {
			p := &Policy{Name: fmt.Sprint(i)}
			for range random.IntN(3) {
				p.Images = append(p.Images, glob(t, globs[random.IntN(len(globs))]))
			}
			if len(p.Images) == 0 || random.IntN(4) == 0 {
				p.Digests = []string{digests[1+random.IntN(2)]}
			}
			s.policies = append(s.policies, p)
		}

		s.index()
		for _, name := range names {
			for _, d := range digests {
				want := ""
				for _, p := range s.policies {
					if p.matchesRepository(name) && p.matchesDigest(d) {
						want = p.Name
						break
					}
				}
				got := s.For(repo(t, name), d, Client{})
				if got.Name != want && !(want == "" && got.Name == defaultName) {
					t.Fatalf("%s@%s: %q decides, in order it is %q", name, d, got.Name, want)
				}
			}
		}
	}
}
