package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pullgate/pullgate/test/rig"
)

// TestCertificateEnd: the metric is the end of the certificate that clients see.
func TestCertificateEnd(t *testing.T) {
	t.Parallel()
	end := time.Now().Add(36 * time.Hour)

	metrics := metricsWithCertificate(t, end)

	want := fmt.Sprintf("pullgate_certificate_end_seconds %g\n", float64(end.Unix()))
	if !strings.Contains(metrics, want) {
		t.Errorf("no %s in\n%s", want, metrics)
	}
}

// TestCountedFromTheStart: what alerts compare is there before it happens, and
// refusals carry their policy.
func TestCountedFromTheStart(t *testing.T) {
	t.Parallel()
	r := rig.Start(t, func(r *rig.Rig) string { return r.Keyed(t) })

	_, metrics := rig.Get(t, "http://"+r.Admin+"/metrics")
	for _, outcome := range []string{"allowed", "denied", "error"} {
		want := `pullgate_requests_total{kind="manifest",outcome="` + outcome + `"} 0`
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s before the first pull", want)
		}
	}
	if !regexp.MustCompile(`(?m)^pullgate_build_info\{goversion="go[^"]+",version="[^"]+"\} 1$`).MatchString(metrics) {
		t.Error("the build is not named")
	}

	r.Pull(t, "unsigned/manifests/latest")
	if _, metrics = rig.Get(t, "http://"+r.Admin+"/metrics"); !strings.Contains(
		metrics, `pullgate_refusals_total{policy="keyed"} 1`) {
		t.Errorf("the refusal is not counted by its policy:\n%s", metrics)
	}
}

// metricsWithCertificate returns the metrics of a gate whose certificate ends then.
func metricsWithCertificate(t *testing.T, end time.Time) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     end,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}

	r := rig.Start(t, func(r *rig.Rig) string {
		for name, block := range map[string]*pem.Block{
			"gate.crt": {Type: "CERTIFICATE", Bytes: certificate},
			"gate.key": {Type: "PRIVATE KEY", Bytes: private},
		} {
			rig.Write(t, r.Dir, name, string(pem.EncodeToMemory(block)))
		}
		return r.Keyed(t) + "tls: {certFile: gate.crt, keyFile: gate.key}\n"
	})
	_, metrics := rig.Get(t, "http://"+r.Admin+"/metrics")
	return metrics
}
