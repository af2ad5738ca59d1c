package server_test

import (
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/pullgate/pullgate/cmd/pullgate/server"
	"github.com/pullgate/pullgate/cmd/pullgate/telemetry"
	"github.com/pullgate/pullgate/test/fixtures/keyless"
	"github.com/pullgate/pullgate/test/rig"
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
	start := func(t *testing.T) *rig.Rig {
		t.Helper()
		return rig.Start(t, func(r *rig.Rig) string {
			r.Dir = dir // with the state and the roots of the start before
			_ = os.Remove(file)
			rig.Write(t, dir, "root.json", string(repo.Root))
			rig.Write(t, dir, "key.pub", r.Key)
			return r.Base() + `trustRoots: [{name: corp, tuf: {mirror: "` + repo.URL + `", root: root.json}}]
policies:
  - name: logged
    images: ["demo.example/signed"]
    authorities: [{key: key.pub, transparencyLog: require, trustRoot: corp}]
  - {name: plain, images: ["demo.example/**"], authorities: [{key: key.pub}]}
`
		})
	}
	decides := func(t *testing.T, r *rig.Rig) {
		t.Helper()
		for image, want := range map[string]int{
			"signed":   http.StatusServiceUnavailable,
			"multi":    http.StatusOK,
			"unsigned": http.StatusForbidden,
		} {
			if got := r.Pull(t, image+"/manifests/latest"); got != want {
				t.Errorf("%s: %d, want %d", image, got, want)
			}
		}
	}
	t.Run("reload", func(t *testing.T) {
		r := start(t)
		r.UntilLogged(t, "does not suit the policies") // it is there
		rig.Replace(t, file, r.Config+"# changed\n")
		r.Hangup <- syscall.SIGHUP
		r.UntilLogged(t, "configuration loaded again")
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
