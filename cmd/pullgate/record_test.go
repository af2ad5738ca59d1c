package main

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/pullgate/pullgate/cmd/pullgate/demo"
	"github.com/pullgate/pullgate/cmd/pullgate/exit"
	"github.com/pullgate/pullgate/test/rig"
)

// TestRecordedLookups: a recording holds the answer of every look-up, also of one
// that came after the verdict was sure; a registry that fails one leaves nothing.
func TestRecordedLookups(t *testing.T) {
	t.Parallel()
	reg := registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true))
	plain := httptest.NewServer(reg)
	t.Cleanup(plain.Close)
	private, public := rig.KeyPair(t)
	if _, err := demo.PushImages(t.Context(), strings.TrimPrefix(plain.URL, "http://"), private); err != nil {
		t.Fatal(err)
	}

	for name, row := range map[string]struct {
		slow   string // part of the path
		status int    // that the slow one is answered with; 0: as it is
		want   int
	}{
		"slow referrers":      {"/referrers/", 0, 0},
		"slow .sig":           {".sig", 0, 0},
		"referrers forbidden": {"/referrers/", http.StatusMethodNotAllowed, 0},
		"referrers failed":    {"/referrers/", http.StatusBadGateway, exit.CouldNotTell},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if strings.Contains(req.URL.Path, row.slow) {
					time.Sleep(300 * time.Millisecond)
					if row.status != 0 {
						w.WriteHeader(row.status)
						return
					}
				}
				reg.ServeHTTP(w, req)
			}))
			t.Cleanup(slow.Close)
			dir := t.TempDir()
			rig.Write(t, dir, "key.pub", public)
			config := rig.Write(t, dir, "pullgate.yaml",
				"upstreams: [{host: demo.example, url: \""+slow.URL+"\"}]\n"+rig.SignedByKey)
			file := filepath.Join(dir, "signed.json")

			code, out := commandExit(t, "verify", "demo.example/signed", "--config", config, "--record", file)
			if code != row.want {
				t.Fatalf("exit %d: %s", code, out)
			}
			text, err := os.ReadFile(file)
			if row.want != 0 {
				if err == nil {
					t.Error("something was recorded")
				}
				return
			}
			var got struct{ Manifests, Referrers map[string]any }
			if err != nil || json.Unmarshal(text, &got) != nil {
				t.Fatalf("%v: %s", err, text)
			}
			if len(got.Manifests) != 4 || len(got.Referrers) == 0 && row.status == 0 {
				t.Errorf("recorded %d manifests and %d lists of referrers", len(got.Manifests), len(got.Referrers))
			}
		})
	}
}
