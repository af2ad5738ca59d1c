package server_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pullgate/pullgate/cmd/pullgate/server"
	"github.com/pullgate/pullgate/cmd/pullgate/telemetry"
	"github.com/pullgate/pullgate/test/fixtures/keyless"
	"github.com/pullgate/pullgate/test/rig"
	"github.com/pullgate/pullgate/test/tufrepo"
)

// TestFetchedRoot: a root that is fetched in the background admits as soon as it
// is there, a new one judges again at once what was admitted, and a mirror that is
// down or lies changes nothing. No file changes, and the gate is ready all the
// while.
func TestFetchedRoot(t *testing.T) {
	t.Parallel()
	set := keyless.Load(t)
	images := httptest.NewServer(set.Set)
	t.Cleanup(images.Close)
	at := slices.IndexFunc(set.Cases, func(c keyless.Case) bool { return c.Name == "v3-rekor2" })
	question := set.Cases[at]
	file := func(name string) []byte {
		t.Helper()
		b, err := set.File(name)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	repo := tufrepo.New(t, file("trusted_root.json"))
	repo.Fail(http.NotFound)
	r := rig.Start(t, func(r *rig.Rig) string {
		rig.Write(t, r.Dir, "root.json", string(repo.Root))
		return strings.Replace(
			r.Base(),
			"http://REGISTRY",
			images.URL,
			1,
		) + `trustRoots: [{name: corp, tuf: {mirror: "` + repo.URL + `", root: root.json, refresh: 1m}}]
policies:
  - name: keyless
    images: ["demo.example/**"]
    authorities:
      - keyless:
          trustRoots: [corp]
          identities: [{issuer: "https://accounts.acme.example", subject: "dev@acme.example"}]
`
	})
	again := func() { // an admin's hang-up asks at once
		t.Helper()
		asked := repo.Requests.Load()
		r.Hangup <- syscall.SIGHUP
		for range 600 {
			if repo.Requests.Load() > asked {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Fatal("the mirror was not asked")
	}
	image := question.Repository + "/manifests/" + question.Tag
	if got := r.Pull(t, image); got != http.StatusServiceUnavailable {
		t.Errorf("before the root is there: %d, want 503", got)
	}
	if _, ready := rig.Get(t, "http://"+r.Admin+"/readyz"); ready != "ok\n" {
		t.Errorf("readyz says %q", ready)
	}
	repo.Fail(nil)
	again()
	r.Until(t, image, http.StatusOK)
	repo.Fail(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	again()
	if got := r.Pull(t, image); got != http.StatusOK {
		t.Errorf("with the mirror down: %d", got)
	}
	// A root that knows another Sigstore: what was admitted is refused.
	repo.Publish(t, 2, file("trusted_root_github.json"), time.Now().Add(time.Hour))
	repo.Fail(nil)
	again()
	r.Until(t, image, http.StatusForbidden)
}

// TestUnsuitableRoot: a root that lost its log leaves open what it
// should have proved. The gate starts all the same, and decides what is left.
func TestUnsuitableRoot(t *testing.T) {
	t.Parallel()
	set := keyless.Load(t)
	lost, err := set.File("trusted_root_github.json") // it has no log
	if err != nil {
		t.Fatal(err)
	}
	repo := tufrepo.New(t, lost)
	r := rig.Start(t, func(r *rig.Rig) string {
		rig.Write(t, r.Dir, "root.json", string(repo.Root))
		rig.Write(t, r.Dir, "key.pub", r.Key)
		return r.Base() + `trustRoots: [{name: corp, tuf: {mirror: "` + repo.URL + `", root: root.json}}]
policies:
  - name: logged
    images: ["demo.example/signed"]
    authorities: [{key: key.pub, transparencyLog: require, trustRoot: corp}]
  - {name: plain, images: ["demo.example/**"], authorities: [{key: key.pub}]}
`
	})
	for range 600 {
		if r.Log.Say("does not suit the policies") {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if !r.Log.Say("does not suit the policies") {
		t.Error("nothing is said of it")
	}
	if got := r.Pull(t, "signed/manifests/latest"); got != http.StatusServiceUnavailable {
		t.Errorf("what only that root could prove: %d, want 503", got)
	}
	if got := r.Pull(t, "multi/manifests/latest"); got != http.StatusOK {
		t.Errorf("what needs no root: %d", got)
	}
	if got := r.Pull(t, "unsigned/manifests/latest"); got != http.StatusForbidden {
		t.Errorf("what is not signed: %d", got)
	}
}

// TestCheckTrustRoots: what the gate could not start with is said
// beforehand, with its line.
func TestCheckTrustRoots(t *testing.T) {
	t.Parallel()
	set := keyless.Load(t)
	for name, tt := range map[string]struct {
		root, authority string
		line            int
		want            string
	}{
		"good": {
			"trusted_root.json",
			`{keyless: {trustRoots: [corp], identities: [{issuer: i, subject: s}]}}`,
			0,
			"",
		},
		"no trusted root": {
			"release.pub",
			`{keyless: {trustRoots: [corp], identities: [{issuer: i, subject: s}]}}`,
			2,
			`trust root "corp": it is no trusted root`,
		},
		"no log in it": {
			"trusted_root_github.json",
			`{key: release.pub, transparencyLog: require, trustRoot: corp}`,
			4,
			"has no transparency log",
		},
		"no log, for an identity": {
			"trusted_root_github.json",
			`{keyless: {trustRoots: [corp], identities: [{issuer: i, subject: s}]}, transparencyLog: require}`,
			4,
			"has no transparency log",
		},
		"timestamps, and there are": {
			"trusted_root_github.json",
			`{key: release.pub, timestamp: require, trustRoot: corp}`,
			0,
			"",
		},
	} {
		dir := t.TempDir()
		if err := set.WriteFiles(dir); err != nil {
			t.Fatal(err)
		}
		rig.Write(
			t,
			dir,
			"pullgate.yaml",
			"upstreams: [{host: a.example}]\ntrustRoots: [{name: corp, file: "+tt.root+"}]\npolicies:\n"+
				"  - {name: p, images: ['a.example/**'], authorities: ["+tt.authority+"]}\n",
		)
		_, problems := server.Load(dir+"/pullgate.yaml", os.Environ(), telemetry.None())
		if tt.want == "" {
			if len(problems) > 0 {
				t.Errorf("%s: %v", name, problems)
			}
			continue
		}
		if len(problems) != 1 || problems[0].Line != tt.line || !strings.Contains(problems[0].Message, tt.want) {
			t.Errorf("%s: %v, want line %d and %q", name, problems, tt.line, tt.want)
		}
	}
}
