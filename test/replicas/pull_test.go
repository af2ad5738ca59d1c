package replicas

import (
	"strings"
	"testing"

	"github.com/pullgate/pullgate/test/hostile"
	"github.com/pullgate/pullgate/test/pgtest"
)

// TestEveryRequestElsewhere: a client that is sent to another gate for every request
// gets every image, and a gate does not ask the registry for signatures that another
// has found.
func TestEveryRequestElsewhere(t *testing.T) {
	const images, rounds = 100, 3
	f := startFleet(t, 3, pgtest.Start(t).URL())
	list := f.pushMany(images)
	unsigned := f.push(false)

	lost := 0
	for range rounds {
		for _, i := range list {
			for _, path := range i.paths() {
				if status, body := f.next().get(path); status != 200 {
					lost++
					t.Errorf("%s: %d %s", path, status, body)
					break
				}
			}
			f.turn.Add(1) // the next image begins elsewhere
		}
	}
	t.Logf("%d pulls, %d lost", images*rounds, lost)

	for _, i := range list {
		tag := hostile.SignatureTag(i.index)
		asked := f.registry.Count(func(q hostile.Request) bool { return strings.Contains(q.URI, tag) })
		if asked != 1 {
			t.Errorf("the registry was asked %d times for the signatures of %s", asked, i.repo)
		}
		for _, c := range i.children {
			asked := f.registry.Count(func(q hostile.Request) bool {
				return strings.Contains(q.URI, hostile.SignatureTag(c.Digest))
			})
			if asked != 0 {
				t.Errorf("the registry was asked %d times for signatures of a child of %s", asked, i.repo)
			}
		}
	}

	for _, path := range unsigned.paths() {
		eventually(t, "refused: "+path, func() bool {
			status, _ := f.next().get(path)
			if status == 200 {
				t.Fatalf("%s is served", path)
			}
			return status == 403
		})
	}
}
