package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/cmd/pullgate/demo"
	"github.com/pullgate/pullgate/cmd/pullgate/imagename"
	"github.com/pullgate/pullgate/cmd/pullgate/server"
	"github.com/pullgate/pullgate/cmd/pullgate/telemetry"
	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/test/rig"
)

// A child asked for by digest is unknown to a gate that has seen no index; warm
// lets it learn, through the running gate and without one.
func TestWarm(t *testing.T) {
	t.Parallel()
	r := rig.Start(t, func(r *rig.Rig) string { return r.Keyed(t) })
	warm := func(args ...string) (string, error) {
		var out, errs bytes.Buffer
		err := run(t.Context(), append([]string{
			"warm",
			"--config",
			filepath.Join(r.Dir, "pullgate.yaml"),
		}, args...), &out, &errs)
		return out.String() + errs.String(), err
	}
	if out, err := warm(
		"demo.example/multi:latest",
	); err != nil ||
		!strings.Contains(out, "admitted, 3 manifests known") {
		t.Errorf("through the running gate: %v\n%s", err, out)
	}
	if out, err := warm("--gate", "http://"+r.Gate, "demo.example/signed:latest"); err != nil {
		t.Errorf("--gate: %v\n%s", err, out)
	}
	_, err := warm("demo.example/unsigned:latest")
	if err == nil || !strings.Contains(err.Error(), "no signature found") {
		t.Errorf("an unsigned image: %v", err)
	}
	if _, err := warm("no image"); err == nil {
		t.Error("nonsense was warmed")
	}
}

// Without a running gate, warm writes what the next one reads.
func TestWarmStandalone(t *testing.T) {
	t.Parallel()
	r := rig.Start(t, func(r *rig.Rig) string { return r.Keyed(t) })
	other := t.TempDir()
	rig.Write(t, other, "key.pub", r.Key)
	listen, err := demo.FreeAddr(t.Context(), "0")
	if err != nil {
		t.Fatal(err)
	}
	file := rig.Write(t, other, "pullgate.yaml", strings.ReplaceAll(r.Config, "listen: "+r.Gate, "listen: "+listen))
	var out, errs bytes.Buffer
	if err := run(t.Context(), []string{
		"warm",
		"--config",
		file,
		"demo.example/multi:latest",
	}, &out, &errs); err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	l, problems := server.Load(file, os.Environ(), telemetry.None())
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	gate, err := server.NewStandaloneGate(t.Context(), l, filepath.Join(other, "pullgate-state"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = gate.Close() }()
	_, index := rig.Get(t, "http://"+r.Gate+"/v2/demo.example/multi/manifests/latest")
	child := rig.Between(index, `"digest":"`, `"`)
	_, manifest := rig.Get(t, "http://"+r.Gate+"/v2/demo.example/multi/manifests/"+child)
	image, err := imagename.Parse("demo.example/multi@" + rig.Between(manifest, `"digest":"`, `"`))
	if err != nil {
		t.Fatal(err)
	}
	_, v, err := gate.Blob(t.Context(), image.Repository, image.Digest, policy.Client{})
	if err != nil || !v.Admitted() {
		t.Errorf("a blob of the warmed image: %v %v", v.Reasons, err)
	}
}
