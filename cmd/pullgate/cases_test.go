package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/pullgate/pullgate/cmd/pullgate/demo"
	"github.com/pullgate/pullgate/cmd/pullgate/exit"
	"github.com/pullgate/pullgate/test/rig"
)

// A recording made from a registry decides the same once the registry is gone.
func TestCasesFromRecordings(t *testing.T) {
	t.Parallel()
	reg := httptest.NewServer(
		registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)),
	)
	private, public := rig.KeyPair(t)
	addr := strings.TrimPrefix(reg.URL, "http://")
	if _, err := demo.PushImages(t.Context(), addr, private); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	rig.Write(t, dir, "key.pub", public)
	config := rig.Write(
		t,
		dir,
		"pullgate.yaml",
		"upstreams: [{host: demo.example, url: \"http://"+addr+"\"}]\n"+rig.SignedByKey,
	)
	command := func(want int, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		err := run(t.Context(), args, &out, &errs)
		if code := exit.Code(err); code != want {
			t.Fatalf("%v: exit %d (%v), want %d\n%s%s", args, code, err, want, out.String(), errs.String())
		}
		return out.String()
	}
	out := command(
		0,
		"verify",
		"demo.example/signed:latest",
		"--config",
		config,
		"--record",
		filepath.Join(dir, "signed.json"),
	)
	if !strings.Contains(out, `allowed by policy "keyed"`) || !strings.Contains(out, "key.pub") {
		t.Errorf("verify says\n%s", out)
	}
	out = command(
		exit.Denied,
		"verify",
		"demo.example/unsigned:latest",
		"--config",
		config,
		"--record",
		filepath.Join(dir, "unsigned.json"),
		"--json",
	)
	if !strings.Contains(out, `"outcome": "denied"`) || !strings.Contains(out, "no signature found") {
		t.Errorf("verify says\n%s", out)
	}
	if out = command(
		0,
		"verify",
		addr+"/signed:latest",
		"--key",
		filepath.Join(dir, "key.pub"),
		"--plain-http",
	); !strings.Contains(
		out,
		"allowed",
	) {
		t.Errorf("verify --key says\n%s", out)
	}
	reg.Close()
	command(exit.CouldNotTell, "verify", "demo.example/signed:latest", "--config", config)

	good := rig.Write(t, dir, "good.yaml", `cases:
  - {image: "demo.example/signed:latest", recorded: signed.json, policy: keyed, outcome: allowed}
  - {image: "demo.example/unsigned:latest", recorded: unsigned.json, outcome: denied, reason: no signature found}
`)
	if out := command(0, "test", good, "--config", config); !strings.Contains(out, "2 cases, 2 as expected") {
		t.Errorf("test says %q", out)
	}
	for name, text := range map[string]string{
		"outcome": `{image: "demo.example/signed:latest", recorded: signed.json, outcome: denied}`,
		"policy":  `{image: "demo.example/signed:latest", recorded: signed.json, outcome: allowed, policy: other}`,
		"reason":  `{image: "demo.example/unsigned:latest", recorded: unsigned.json, outcome: denied, reason: expired}`,
	} {
		command(exit.Denied, "test", rig.Write(t, dir, name+".yaml", "cases:\n  - "+text+"\n"), "--config", config)
	}
	for name, text := range map[string]string{
		"field": `{image: "demo.example/signed:latest", outcome: allowed, recorder: x}`,
		"word":  `{image: "demo.example/signed:latest", outcome: fine}`,
	} {
		text = "cases:\n  - " + text + "\n"
		command(exit.CouldNotTell, "test", rig.Write(t, dir, name+".yaml", text), "--config", config)
	}
	command(exit.CouldNotTell, "test", rig.Write(t, dir, "empty.yaml", "cases: []\n"), "--config", config)
	command(
		exit.CouldNotTell,
		"test",
		rig.Write(t, dir, "live.yaml", "cases:\n  - {image: \"demo.example/signed:latest\", outcome: allowed}\n"),
		"--config",
		config,
	)

	// A recording is as little trusted as a registry: one with other bytes
	// under a digest is no signature.
	rig.Write(t, dir, "swapped.json", withOtherBlobs(t, filepath.Join(dir, "signed.json")))
	command(
		exit.CouldNotTell,
		"test",
		rig.Write(
			t,
			dir,
			"swapped.yaml",
			"cases:\n  - {image: \"demo.example/signed:latest\", recorded: swapped.json, outcome: allowed}\n",
		),
		"--config",
		config,
	)
}

// withOtherBlobs is a recording with a bit flipped in every blob.
func withOtherBlobs(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var recording struct {
		Manifests json.RawMessage   `json:"manifests"`
		Blobs     map[string][]byte `json:"blobs"`
		Referrers json.RawMessage   `json:"referrers"`
	}
	if err := json.Unmarshal(text, &recording); err != nil {
		t.Fatal(err)
	}
	if len(recording.Blobs) == 0 {
		t.Fatalf("%s holds no blobs: the test shows nothing", file)
	}
	for _, blob := range recording.Blobs {
		blob[0] ^= 1
	}
	if text, err = json.Marshal(recording); err != nil {
		t.Fatal(err)
	}
	return string(text)
}
