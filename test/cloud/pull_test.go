package cloud

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pullgate/pullgate/test/rig"
)

const (
	ecrOne    = "111111111111.dkr.ecr.eu-west-1.amazonaws.com"
	ecrTwo    = "222222222222.dkr.ecr.us-east-1.amazonaws.com"
	ecrDenied = "333333333333.dkr.ecr.eu-west-1.amazonaws.com"
	garFile   = "europe-docker.pkg.dev"
	garHere   = "us-docker.pkg.dev"
	acrOne    = "one.azurecr.io"
	acrTwo    = "two.azurecr.io"
	plugged   = "harbor.acme.example"
	hung      = "hung.acme.example"
	tokened   = "zot.acme.example"

	azureOne = "aaaaaaaa-1111-1111-1111-111111111111"
	azureTwo = "bbbbbbbb-1111-1111-1111-111111111111"
)

// good are the hosts that can be pulled from.
var good = []string{ecrOne, ecrTwo, garFile, garHere, acrOne, acrTwo, plugged, tokened}

// clouds starts the servers of all of them before one registry.
func clouds(t *testing.T, addr string) {
	t.Helper()
	images := backend(addr)
	for _, region := range []string{"eu-west-1", "us-east-1"} {
		outside.site("sts."+region+".amazonaws.com", sts)
		outside.site("api.ecr."+region+".amazonaws.com", ecrAPI)
	}
	outside.site("oauth2.googleapis.com", google)
	outside.site("login.microsoftonline.com", entra)

	outside.site(ecrOne, takesBasic("AWS", ecrPassword("one"), images))
	outside.site(ecrTwo, takesBasic("AWS", ecrPassword("two"), images))
	outside.site(ecrDenied, takesBasic("AWS", ecrPassword("denied"), images))
	outside.site(garFile, artifactRegistry("puller", images))
	outside.site(garHere, artifactRegistry("machine", images))
	outside.site(acrOne, acr(azureOne, images))
	outside.site(acrTwo, acr(azureTwo, images))
	outside.site(plugged, takesBasic("plug", "plugin-"+mark, images))
	outside.site(hung, takesBasic("plug", "plugin-"+mark, images))
	outside.site(tokened, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer token-"+mark {
			w.Header().Set("WWW-Authenticate", `Bearer realm="https://sso.acme.example/token",service="zot"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		images(w, r)
	})
}

// identities puts what the machine is given into the environment.
func identities(t *testing.T, dir string) {
	t.Helper()
	machine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Metadata-Flavor") != "Google" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		answer(w, http.StatusOK, `{"access_token":"google-%s-machine","expires_in":3600}`, mark)
	}))
	t.Cleanup(machine.Close)
	t.Setenv("GCE_METADATA_HOST", strings.TrimPrefix(machine.URL, "http://"))

	t.Setenv("AWS_REGION", "ap-south-1") // the registry's name says another
	t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", rig.Write(t, dir, "web", "web-"+mark))
	t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::999999999999:role/pod")

	t.Setenv("AZURE_FEDERATED_TOKEN_FILE", rig.Write(t, dir, "federated", "federated-"+mark))
	t.Setenv("AZURE_CLIENT_ID", azureOne)
	t.Setenv("AZURE_TENANT_ID", tenant)
}

func accountKey(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]string{
		"type":         "service_account",
		"private_key":  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"client_email": "puller@acme.iam.gserviceaccount.com",
		"token_uri":    "https://oauth2.googleapis.com/token",
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// configuration is a gate before all of them.
func configuration(t *testing.T, r *rig.Rig, dir, key string) string {
	t.Helper()
	rig.Write(t, r.Dir, "key.pub", key)
	rig.Write(t, dir, "account.json", accountKey(t))
	rig.Write(t, dir, "token", "token-"+mark+"\n")
	provider := `{"apiVersion":"credentialprovider.kubelet.k8s.io/v1","kind":"CredentialProviderResponse",` +
		`"cacheKeyType":"Registry","cacheDuration":"1h","auth":{"*.acme.example":{"username":"plug","password":"%s"}}}`
	programs := map[string]string{
		"provider": "#!/bin/sh\necho run >> " + dir + "/runs\necho " + mark + " >&2\ncat <<END\n" +
			fmt.Sprintf(provider, "plugin-"+mark) + "\nEND\n",
		"hang": "#!/bin/sh\necho password " + mark + "\necho " + mark + " >&2\nsleep 300\n",
	}
	for name, text := range programs {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}

	role := func(name string) string {
		return "{type: ecr, roleARN: \"arn:aws:iam::123456789012:role/" + name + "\"}"
	}
	auth := map[string]string{
		ecrOne:    role("one"),
		ecrTwo:    role("two"),
		ecrDenied: role("denied"),
		garFile:   "{type: gcr, file: " + dir + "/account.json}",
		garHere:   "{type: gcr}",
		acrOne:    "{type: acr}",
		acrTwo:    "{type: acr, clientID: " + azureTwo + "}",
		plugged:   "{type: credentialProvider, command: " + dir + "/provider}",
		hung:      "{type: credentialProvider, command: " + dir + "/hang, timeout: 1s}",
		tokened:   "{type: token, file: " + dir + "/token}",
	}
	text := fmt.Sprintf("listen: %s\nadmin: {listen: %q}\ndrain: 2s\nlog: {level: debug}\nstate: {path: %s/state}\n"+
		"upstreams:\n", r.Gate, r.Admin, dir)
	for host, a := range auth {
		text += "  - {host: " + host + ", auth: " + a + "}\n"
	}
	return text + "policies: [{name: keyed, images: [\"**\"], authorities: [{name: k, key: key.pub}]}]\n"
}

// pull asks the gate for a path of a host.
func pull(t *testing.T, r *rig.Rig, method, host, what string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+r.Gate+"/v2/"+host+"/"+what, nil)
	if err != nil {
		t.Fatal(err)
	}
	return rig.Do(t, req)
}

// spans is a collector that keeps what it is sent.
type spans struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *spans) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(body)
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// A whole pull with each type of credentials, two accounts of each cloud at once,
// by fifty clients: each is asked once for credentials, each registry sees its
// own, and no secret is seen anywhere else.
func TestPulls(t *testing.T) {
	outside.forget()
	got := &spans{}
	collector := httptest.NewServer(got)
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_METRICS_EXPORTER", "none")

	var r *rig.Rig
	dir := t.TempDir()
	said := &strings.Builder{} // all that clients and scrapers were told
	t.Run("gate", func(t *testing.T) {
		addr, key := rig.Registry(t)
		clouds(t, addr)
		identities(t, dir)
		r = rig.Start(t, func(r *rig.Rig) string { return configuration(t, r, dir, key) })

		for _, host := range good {
			t.Run(host, func(t *testing.T) { said.WriteString(pulled(t, r, host)) })
		}
		for host, whom := range map[string]string{
			ecrDenied: "role arn:aws:iam::123456789012:role/denied",
			hung:      "credential provider " + dir + "/hang",
		} {
			t.Run(host, func(t *testing.T) { said.WriteString(withoutCredentials(t, r, host, whom)) })
		}
		_, metrics := rig.Get(t, "http://"+r.Admin+"/metrics")
		_, decisions := rig.Get(t, "http://"+r.Admin+"/decisions")
		said.WriteString(metrics + decisions)
	})

	askedOnce(t, dir)
	kept(t)
	for name, text := range map[string]string{
		"answers": said.String(),
		"spans":   got.text.String(),
		"log":     r.Log.Text(),
	} {
		if len(text) < 1000 || strings.Contains(text, mark) {
			t.Errorf("%s: %d bytes, a secret among them: %v", name, len(text), strings.Contains(text, mark))
		}
	}
	record := recorded(t, dir)
	if !strings.Contains(record, ecrDenied) || strings.Contains(record, mark) {
		t.Errorf("the record of %d bytes holds a secret, or not what was refused", len(record))
	}
}

// pulled pulls the signed image from a host, by fifty clients, and its first
// layer, and is refused the unsigned one.
func pulled(t *testing.T, r *rig.Rig, host string) (said string) {
	t.Helper()
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if status, body := pull(t, r, http.MethodGet, host, "signed/manifests/latest"); status != http.StatusOK {
				t.Errorf("%d %s", status, body)
			}
		})
	}
	all.Wait()

	_, manifest := pull(t, r, http.MethodGet, host, "signed/manifests/latest")
	_, layers, _ := strings.Cut(manifest, `"layers"`)
	layer := "sha256:" + rig.Between(layers, "sha256:", `"`)
	if status, _ := pull(t, r, http.MethodGet, host, "signed/blobs/"+layer); status != http.StatusOK {
		t.Errorf("the layer is answered %d", status)
	}
	status, denied := pull(t, r, http.MethodGet, host, "unsigned/manifests/latest")
	if status != http.StatusForbidden || !strings.Contains(denied, `refused by policy \"keyed\"`) {
		t.Errorf("unsigned: %d %s", status, denied)
	}
	return manifest + denied
}

// withoutCredentials is refused with 502 that names the host and whom the gate
// wanted to be.
func withoutCredentials(t *testing.T, r *rig.Rig, host, whom string) (said string) {
	t.Helper()
	status, body := pull(t, r, http.MethodGet, host, "signed/manifests/latest")
	if want := "the gate got no credentials for " + host + " as " + whom; status != http.StatusBadGateway ||
		!strings.Contains(body, want) || !strings.Contains(body, "(decision ") {
		t.Errorf("%d %s; want %q", status, body, want)
	}
	if status, _ := pull(t, r, http.MethodHead, host, "signed/manifests/latest"); status != http.StatusBadGateway {
		t.Errorf("HEAD is answered %d", status)
	}
	r.UntilLogged(t, whom)
	return body
}

// askedOnce checks that each service was asked for each identity once.
func askedOnce(t *testing.T, dir string) {
	t.Helper()
	count := func(host, path, text string) (n int) {
		for _, a := range outside.to(host, path) {
			if strings.Contains(a.text, text) {
				n++
			}
		}
		return n
	}
	runs, err := os.ReadFile(filepath.Join(dir, "runs"))
	if err != nil {
		t.Fatal(err)
	}

	for name, n := range map[string]int{
		"role one":      count("sts.eu-west-1.amazonaws.com", "/", "role%2Fone"),
		"role two":      count("sts.us-east-1.amazonaws.com", "/", "role%2Ftwo"),
		"password one":  count("api.ecr.eu-west-1.amazonaws.com", "/", "KEYone/"),
		"password two":  count("api.ecr.us-east-1.amazonaws.com", "/", "KEYtwo/"),
		"Google":        count("oauth2.googleapis.com", "/token", "assertion"),
		"exchange one":  count(acrOne, "/oauth2/exchange", ""),
		"exchange two":  count(acrTwo, "/oauth2/exchange", ""),
		"Entra one":     count("login.microsoftonline.com", "/"+tenant+"/oauth2", "client_id="+azureOne),
		"Entra two":     count("login.microsoftonline.com", "/"+tenant+"/oauth2", "client_id="+azureTwo),
		"provider runs": strings.Count(string(runs), "run"),
	} {
		if n != 1 {
			t.Errorf("%s: %d; want 1", name, n)
		}
	}
}

// kept checks who saw which secret.
func kept(t *testing.T) {
	t.Helper()
	for secret, want := range map[string][]string{
		ecrPassword("one"):                       {ecrOne},
		ecrPassword("two"):                       {ecrTwo},
		ecrPassword("denied"):                    nil,
		"google-" + mark + "-puller":             {garFile},
		"google-" + mark + "-machine":            {garHere},
		"refresh-" + mark + "-" + azureOne:       {acrOne},
		"refresh-" + mark + "-" + azureTwo:       {acrTwo},
		"entra-" + mark + "-" + azureOne:         {acrOne},
		"entra-" + mark + "-" + azureTwo:         {acrTwo},
		"federated-" + mark:                      {"login.microsoftonline.com"},
		"web-" + mark:                            {"sts.eu-west-1.amazonaws.com", "sts.us-east-1.amazonaws.com"},
		"plugin-" + mark:                         {plugged},
		"token-" + mark:                          {tokened},
		"registry-" + mark + "-" + garFile:       {garFile},
		"registry-" + mark + "-" + acrOne:        {acrOne},
		"Bearer registry-" + mark + "-" + acrTwo: {acrTwo},
	} {
		got := outside.whoSaw(secret)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s was seen by %v; want %v", strings.ReplaceAll(secret, mark, "…"), got, want)
		}
	}
	if got := outside.strangers(); len(got) != 0 {
		t.Errorf("others were asked for: %v", got)
	}
}

// recorded is what the record of decisions holds, once it is written.
func recorded(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "state", "decisions*"))
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text += string(b)
	}
	return text
}
