package server_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pullgate/pullgate/test/rig"
)

// A key file changed alone: what that key signed is refused at once, the
// manifest, the children it had let in, and their blobs.
func TestReloadRevokedKey(t *testing.T) {
	r := rig.Start(t, func(r *rig.Rig) string { return r.Keyed(t) })
	status, index := rig.Get(t, "http://"+r.Gate+"/v2/demo.example/multi/manifests/latest")
	if status != http.StatusOK {
		t.Fatalf("before: %d %s", status, index)
	}
	child := "multi/manifests/" + rig.Between(index, `"digest":"`, `"`)
	status, manifest := rig.Get(t, "http://"+r.Gate+"/v2/demo.example/"+child)
	if status != http.StatusOK {
		t.Fatalf("child before: %d %s", status, manifest)
	}
	blob := "multi/blobs/" + rig.Between(manifest, `"digest":"`, `"`)
	if status := r.Pull(t, blob); status != http.StatusOK {
		t.Fatalf("blob before: %d", status)
	}
	_, other := rig.KeyPair(t)
	rig.Replace(t, filepath.Join(r.Dir, "key.pub"), other)
	r.Until(t, "multi/manifests/latest", http.StatusForbidden)
	for _, what := range []string{child, blob} {
		if status := r.Pull(t, what); status != http.StatusForbidden {
			t.Errorf("%s after: %d", what, status)
		}
	}
	rig.Replace(t, filepath.Join(r.Dir, "key.pub"), r.Key)
	r.Until(t, blob, http.StatusOK)
}

// An editor writes a new file and renames it; meanwhile pulls go on, and none
// of them sees anything but the old answer or the new one.
func TestReloadUnderLoad(t *testing.T) {
	r := rig.Start(t, func(r *rig.Rig) string { return r.Keyed(t) })
	ctx, stop := context.WithCancel(t.Context())
	var asked atomic.Int64
	wrong := make(chan string, 4)
	for range 4 {
		go func() {
			for ctx.Err() == nil {
				req, err := http.NewRequestWithContext(
					ctx,
					http.MethodGet,
					"http://"+r.Gate+"/v2/demo.example/signed/manifests/latest",
					nil,
				)
				if err != nil {
					wrong <- err.Error()
					return
				}
				resp, err := http.DefaultClient.Do(req)
				if ctx.Err() != nil {
					break
				}
				if err != nil || resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusForbidden {
					wrong <- fmt.Sprint(err, resp)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body) // only the status counts
				_ = resp.Body.Close()
				asked.Add(1)
			}
			wrong <- ""
		}()
	}
	denied := strings.Replace(r.Config, "authorities: [{name: k, key: key.pub}]", "static: deny", 1)
	for range 3 {
		rig.Replace(t, filepath.Join(r.Dir, "pullgate.yaml"), denied)
		r.Until(t, "signed/manifests/latest", http.StatusForbidden)
		rig.Replace(t, filepath.Join(r.Dir, "pullgate.yaml"), r.Config)
		r.Until(t, "signed/manifests/latest", http.StatusOK)
	}
	stop()
	for range 4 {
		if w := <-wrong; w != "" {
			t.Error(w)
		}
	}
	if asked.Load() < 20 {
		t.Errorf("only %d pulls: the test shows nothing", asked.Load())
	}
}

// A file that appears and matches a glob counts; one that disappears does not.
func TestReloadNewPolicyFile(t *testing.T) {
	r := rig.Start(t, func(r *rig.Rig) string {
		if err := os.Mkdir(filepath.Join(r.Dir, "policies"), 0o700); err != nil {
			t.Fatal(err)
		}
		return r.Base() + "policyFiles: [\"policies/*.yaml\"]\n"
	})
	if status := r.Pull(t, "signed/manifests/latest"); status != http.StatusForbidden {
		t.Fatalf("without a policy: %d", status)
	}
	file := rig.Write(
		t,
		filepath.Join(r.Dir, "policies"),
		"a.yaml",
		"policies: [{name: open, images: [\"demo.example/signed\"], static: allow}]\n",
	)
	r.Until(t, "signed/manifests/latest", http.StatusOK)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	r.Until(t, "signed/manifests/latest", http.StatusForbidden)
}

// Kubernetes swaps the link ..data; the files themselves are links through it.
func TestReloadConfigMap(t *testing.T) {
	version := func(r *rig.Rig, name, config string) {
		if err := os.Mkdir(filepath.Join(r.Dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		rig.Write(t, filepath.Join(r.Dir, name), "pullgate.yaml", config)
		if err := os.Symlink(name, filepath.Join(r.Dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(r.Dir, "..data_tmp"), filepath.Join(r.Dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	const open = "policies: [{name: open, images: [\"demo.example/**\"], static: allow}]\n"
	r := rig.Start(t, func(r *rig.Rig) string { return r.Base() })
	version(r, "..v1", r.Config)
	if err := os.Remove(filepath.Join(r.Dir, "pullgate.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("..data/pullgate.yaml", filepath.Join(r.Dir, "pullgate.yaml")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond) // the link is in force
	if status := r.Pull(t, "unsigned/manifests/latest"); status != http.StatusForbidden {
		t.Fatalf("before: %d", status)
	}
	version(r, "..v2", r.Config+open)
	r.Until(t, "unsigned/manifests/latest", http.StatusOK)
	version(r, "..v3", r.Config)
	r.Until(t, "unsigned/manifests/latest", http.StatusForbidden)
}

// A bad file leaves the old configuration in force, and says so.
func TestReloadBadFile(t *testing.T) {
	r := rig.Start(t, func(r *rig.Rig) string { return r.Keyed(t) })
	file := filepath.Join(r.Dir, "pullgate.yaml")
	// It names a key that is not there yet.
	rig.Replace(t, file, strings.Replace(r.Config, "key.pub", "next.pub", 1))
	r.UntilReady(t, "next.pub")
	if _, metrics := rig.Get(t, "http://"+r.Admin+"/metrics"); !strings.Contains(metrics, "pullgate_config_refused 1") {
		t.Error("no metric says that the configuration is refused")
	}
	if status := r.Pull(t, "signed/manifests/latest"); status != http.StatusOK {
		t.Errorf("the old configuration is not in force: %d", status)
	}
	// The key comes: the refused configuration is loaded without another change.
	_, other := rig.KeyPair(t)
	rig.Write(t, r.Dir, "next.pub", other)
	r.Until(t, "signed/manifests/latest", http.StatusForbidden)
	if _, ready := rig.Get(t, "http://"+r.Admin+"/readyz"); ready != "ok\n" {
		t.Errorf("readyz still says %q", ready)
	}
}

// TestMissingRoot: nothing is refused for want of a root, and the
// gate is ready all the same; a policy that does not need it decides as ever.
func TestMissingRoot(t *testing.T) {
	t.Parallel()
	r := rig.Start(t, func(r *rig.Rig) string {
		rig.Write(t, r.Dir, "key.pub", r.Key)
		rig.Write(t, r.Dir, "root.json", "{}")
		return r.Base() + `trustRoots: [{name: corp, tuf: {mirror: "http://127.0.0.1:1", root: root.json}}]
policies:
  - name: logged
    images: ["demo.example/multi"]
    authorities: [{key: key.pub, transparencyLog: require, trustRoot: corp}]
  - name: both
    images: ["demo.example/**"]
    authorities:
      - {key: key.pub}
      - {keyless: {trustRoots: [corp], identities: [{issuer: i, subject: s}]}}
`
	})
	if got := r.Pull(t, "signed/manifests/latest"); got != http.StatusOK {
		t.Errorf("signed with the key: %d", got)
	}
	if got := r.Pull(t, "multi/manifests/latest"); got != http.StatusServiceUnavailable {
		t.Errorf("what the missing root may have admitted: %d, want 503", got)
	}
	if got := r.Pull(t, "unsigned/manifests/latest"); got != http.StatusForbidden {
		t.Errorf("what no root could admit: %d, want 403", got)
	}
	if _, ready := rig.Get(t, "http://"+r.Admin+"/readyz"); ready != "ok\n" {
		t.Errorf("readyz says %q", ready)
	}
	r.UntilMetric(t, `pullgate_trust_age_seconds{name="corp"`)
}

func TestReloadOnHangup(t *testing.T) {
	r := rig.Start(t, func(r *rig.Rig) string { return r.Keyed(t) })
	r.Hangup <- syscall.SIGHUP
	for range 100 {
		if _, metrics := rig.Get(
			t,
			"http://"+r.Admin+"/metrics",
		); strings.Contains(
			metrics,
			`pullgate_config_reloads_total{result="done"} 1`,
		) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("a hangup loads nothing")
}

// A file in the folder of the key that is written to all the time does not put the
// reload off.
func TestReloadBusyFile(t *testing.T) {
	r := rig.Start(t, func(r *rig.Rig) string { return r.Keyed(t) })
	if status := r.Pull(t, "signed/manifests/latest"); status != http.StatusOK {
		t.Fatalf("before: %d", status)
	}
	busy, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(busy)
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				_ = os.WriteFile(filepath.Join(r.Dir, "gate.log"), fmt.Append(nil, n), 0o600) // only its noise counts
			}
		}
	}()
	_, other := rig.KeyPair(t)
	rig.Replace(t, filepath.Join(r.Dir, "key.pub"), other)
	r.Until(t, "signed/manifests/latest", http.StatusForbidden)
	close(stop)
	<-busy
}

// A file that differs at every read may be half a file: the older configuration
// stays in force until it has settled.
func TestReloadUnsettledFile(t *testing.T) {
	t.Parallel()
	const unsettled = "/proc/sys/kernel/random/uuid"
	if _, err := os.Stat(unsettled); err != nil {
		t.Skipf("no file that differs at every read: %v", err)
	}

	r := rig.Start(t, func(r *rig.Rig) string { return r.Keyed(t) })
	password := filepath.Join(r.Dir, "password")
	if err := os.Symlink(unsettled, password); err != nil {
		t.Fatal(err)
	}
	open := strings.NewReplacer(
		"host: demo.example,", "host: demo.example, auth: {type: basic, username: u, passwordFile: password},",
		"authorities: [{name: k, key: key.pub}]", "static: allow",
	).Replace(r.Config)
	rig.Replace(t, filepath.Join(r.Dir, "pullgate.yaml"), open)

	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if status := r.Pull(t, "unsigned/manifests/latest"); status != http.StatusForbidden {
			t.Fatalf("unsettled: %d", status)
		}
	}
	rig.Replace(t, password, "settled")
	r.Until(t, "unsigned/manifests/latest", http.StatusOK)
}

// TestReloadQuickChanges: however changes fall between the reading of files, what
// they hold at the end is in force.
func TestReloadQuickChanges(t *testing.T) {
	t.Parallel()
	r := rig.Start(t, func(r *rig.Rig) string { return r.Keyed(t) })
	file := filepath.Join(r.Dir, "pullgate.yaml")
	denied := strings.Replace(r.Config, "authorities: [{name: k, key: key.pub}]", "static: deny", 1)

	for range 150 {
		rig.Replace(t, file, r.Config)
		r.Hangup <- syscall.SIGHUP // reads now
		time.Sleep(time.Millisecond)
		rig.Replace(t, file, denied)
	}
	r.Until(t, "signed/manifests/latest", http.StatusForbidden)
}

// A policy folder that is gone is a mistake, not an empty list of denials.
func TestReloadMissingFolder(t *testing.T) {
	r := rig.Start(t, func(r *rig.Rig) string {
		if err := os.Mkdir(filepath.Join(r.Dir, "deny"), 0o700); err != nil {
			t.Fatal(err)
		}
		rig.Write(
			t,
			filepath.Join(r.Dir, "deny"),
			"a.yaml",
			"policies: [{name: no, images: [\"demo.example/unsigned\"], static: deny}]\n",
		)
		rig.Write(t, r.Dir, "allow.yaml", "policies: [{name: yes, images: [\"demo.example/**\"], static: allow}]\n")
		return r.Base() + "policyFiles: [\"deny/*.yaml\", allow.yaml]\n"
	})
	if err := os.Rename(filepath.Join(r.Dir, "deny"), filepath.Join(r.Dir, "gone")); err != nil {
		t.Fatal(err)
	}
	r.UntilReady(t, "deny/*.yaml")
	if status := r.Pull(t, "unsigned/manifests/latest"); status != http.StatusForbidden {
		t.Errorf("what was denied is answered %d", status)
	}
}
