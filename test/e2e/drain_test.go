package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDrain: SIGTERM lets a running blob finish and takes no new pull; then the
// process ends with 0. A second process on the same state says who holds it.
func TestDrain(t *testing.T) {
	need(t, "cosign-v2")
	registry := startOlareg(t)
	key, public := keyPair(t)
	d := pushIndex(t, registry+"/drain/app:v1", 64<<20)
	signers["v2 legacy"](t, key, registry+"/drain/app@"+d)
	g := startGate(t, registry, public)
	_, index := get(t, g, "drain/app/manifests/v1")
	var list struct{ Manifests []struct{ Digest string } }
	if err := json.Unmarshal(index, &list); err != nil || len(list.Manifests) == 0 {
		t.Fatalf("%v %s", err, index)
	}
	_, manifest := get(t, g, "drain/app/manifests/"+list.Manifests[0].Digest)
	var m struct{ Layers []struct{ Digest string } }
	if err := json.Unmarshal(manifest, &m); err != nil || len(m.Layers) == 0 {
		t.Fatalf("%v %s", err, manifest)
	}
	second := exec.Command(binary(t), "serve", "--config", g.config)
	second.Env = append(
		append(os.Environ(), closed()...),
		"PULLGATE_LISTEN=127.0.0.1:"+freePort(t),
		"PULLGATE_ADMIN_LISTEN=127.0.0.1:"+freePort(t),
	)
	if out, err := second.CombinedOutput(); err == nil || !strings.Contains(string(out), "in use by another pullgate") {
		t.Errorf("a second process on the same state: %v\n%s", err, out)
	}

	resp, err := http.Get("http://" + g.addr + "/v2/reg.test/drain/app/blobs/" + m.Layers[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	sum := sha256.New()
	if _, err := io.CopyN(sum, resp.Body, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	refused := false
	for range 100 {
		fresh, err := http.Get("http://" + g.addr + "/v2/")
		if refused = err != nil; refused {
			break
		}
		_ = fresh.Body.Close()
		time.Sleep(10 * time.Millisecond)
	}
	if !refused {
		t.Error("the draining gate takes new connections")
	}
	if status := ready(t, g); status != http.StatusServiceUnavailable {
		t.Errorf("/readyz while draining: %d", status)
	}
	if _, err := io.Copy(
		sum,
		resp.Body,
	); err != nil ||
		"sha256:"+hex.EncodeToString(sum.Sum(nil)) != m.Layers[0].Digest {
		t.Errorf("the running blob did not finish: %v", err)
	}
	select {
	case <-g.done:
	case <-time.After(10 * time.Second):
		t.Fatal("the gate does not end")
	}
	if code := g.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d\n%s", code, tail(g.log.String(), 2000))
	}
}

func ready(t *testing.T, g *gate) int {
	t.Helper()
	resp, err := http.Get("http://" + g.admin + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}
