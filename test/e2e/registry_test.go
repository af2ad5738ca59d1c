package e2e

import (
	"io"
	"log"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

// registries are the real ones the gate is tried before. Each start returns
// the address; the registry ends with the test.
var registries = map[string]func(t *testing.T) string{
	// distribution has no referrers API: cosign v3 writes the fallback tag.
	"distribution": startDistribution,
	// olareg has the referrers API with filters.
	"olareg": startOlareg,
	// go-containerregistry's lists referrers under a wrong artifactType.
	"ggcr": startGGCR,
}

func startDistribution(t *testing.T) string {
	t.Helper()
	return startDistributionWith(t, "")
}

func startDistributionWith(t *testing.T, more string) string {
	t.Helper()
	return startDistributionOn(t, t.TempDir(), "delete: {enabled: true}", more)
}

// startDistributionOn serves the images of a folder, which another may serve too.
func startDistributionOn(t *testing.T, data, storage, more string) string {
	t.Helper()
	need(t, "distribution")
	port := freePort(t)
	config := writeFile(t, filepath.Join(t.TempDir(), "config.yml"), `version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: "`+data+`"}, `+storage+`}
http: {addr: "127.0.0.1:`+port+`", secret: x}
`+more)
	p := start(t, nil, "distribution", "serve", config)
	waitHTTP(t, p, "http://127.0.0.1:"+port+"/v2/")
	return "127.0.0.1:" + port
}

func startOlareg(t *testing.T) string {
	t.Helper()
	need(t, "olareg")
	port := freePort(t)
	p := start(t, nil, "olareg", "serve", "--addr", "127.0.0.1", "--port", port, "--dir", t.TempDir())
	waitHTTP(t, p, "http://127.0.0.1:"+port+"/v2/")
	return "127.0.0.1:" + port
}

func startGGCR(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(
		registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)),
	)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}
