package main

import (
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/pullgate/pullgate/cmd/pullgate/server"
	"github.com/pullgate/pullgate/cmd/pullgate/telemetry"
	"github.com/pullgate/pullgate/test/fixtures/keyless"
	"github.com/pullgate/pullgate/test/tufrepo"
)

// TestUnfitRoot: a fetched root that lost its log is kept on disk, and stops
// neither a start, nor a reload, nor a command. What only it could prove stays
// open, and the rest is decided.
func TestUnfitRoot(t *testing.T) {
	t.Parallel()
	set := keyless.Load(t)
	lost, err := set.File("trusted_root_github.json") // it has no log
	if err != nil {
		t.Fatal(err)
	}
	repo := tufrepo.New(t, lost)
	dir := t.TempDir()
	file := filepath.Join(dir, "pullgate.yaml")
	start := func(t *testing.T) *rig {
		t.Helper()
		return startRig(t, func(r *rig) string {
			r.dir = dir // with the state and the roots of the start before
			_ = os.Remove(file)
			writeIn(t, dir, "root.json", string(repo.Root))
			writeIn(t, dir, "key.pub", r.key)
			return r.base() + `trustRoots: [{name: corp, tuf: {mirror: "` + repo.URL + `", root: root.json}}]
policies:
  - name: logged
    images: ["demo.example/signed"]
    authorities: [{key: key.pub, transparencyLog: require, trustRoot: corp}]
  - {name: plain, images: ["demo.example/**"], authorities: [{key: key.pub}]}
`
		})
	}
	decides := func(t *testing.T, r *rig) {
		t.Helper()
		for image, want := range map[string]int{
			"signed":   http.StatusServiceUnavailable,
			"multi":    http.StatusOK,
			"unsigned": http.StatusForbidden,
		} {
			if got := r.pull(t, image+"/manifests/latest"); got != want {
				t.Errorf("%s: %d, want %d", image, got, want)
			}
		}
	}
	says := func(t *testing.T, r *rig, text string) {
		t.Helper()
		for range 600 {
			if r.log.say(text) {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Fatalf("the log does not say %q", text)
	}
	t.Run("reload", func(t *testing.T) {
		r := start(t)
		says(t, r, "does not suit the policies") // it is there
		replace(t, file, r.config+"# changed\n")
		r.hup <- syscall.SIGHUP
		says(t, r, "configuration loaded again")
		decides(t, r)
	})
	t.Run("start", func(t *testing.T) {
		decides(t, start(t))
	})
	t.Run("command", func(t *testing.T) {
		l, problems := server.Load(file, os.Environ(), telemetry.None())
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		gate, err := server.NewStandaloneGate(t.Context(), l, t.TempDir(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := gate.Close(); err != nil {
			t.Error(err)
		}
	})
}
