package replicas

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/test/hostile"
)

// TestSealed: with a namespace of their own, replicas believe each other also when a
// registry last had a manifest, and no name of a repository is in the database.
func TestSealed(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "namespace")
	if err := os.WriteFile(secret, []byte(rand.Text()+rand.Text()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	db := startDatabase(t)
	f := startFleet(t, 2, db.URL(), "databaseNamespaceFile: "+secret)
	i := f.push(true)

	for _, g := range f.gates {
		for _, path := range i.paths() {
			if status, body := g.get(path); status != 200 {
				t.Errorf("%s: %d %s", path, status, body)
			}
		}
	}
	for _, c := range i.children {
		path := "/manifests/" + c.Digest.String()
		if n := f.registry.Count(func(q hostile.Request) bool { return strings.Contains(q.URI, path) }); n != 1 {
			t.Errorf("the registry was asked %d times for a child", n)
		}
	}
	named := "SELECT count(*) FROM pullgate_lists WHERE position('" + i.repo + "'::bytea IN key || digests) > 0"
	if n := db.Value(t, named); n != 0 {
		t.Errorf("%d rows tell the repository", n)
	}
}

// TestEveryRequestElsewhere: a client that is sent to another gate for every request
// gets every image, and a gate does not ask the registry for signatures that another
// has found.
func TestEveryRequestElsewhere(t *testing.T) {
	const images, rounds = 100, 3
	f := startFleet(t, 3, startDatabase(t).URL())
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
