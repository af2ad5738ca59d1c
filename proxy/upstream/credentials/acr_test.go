package credentials

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

const (
	acrRegistry = "acme.azurecr.io"
	entra       = "login.microsoftonline.com"
	tenant      = "11111111-1111-1111-1111-111111111111"
	clientA     = "aaaaaaaa-1111-1111-1111-111111111111"
	clientB     = "bbbbbbbb-1111-1111-1111-111111111111"
)

func unsigned(claims string) string {
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{"alg":"none"}`)) + "." + part([]byte(claims)) + ".x"
}

// entraTokens gives a token for any client; it names the client.
func entraTokens(host string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		base := "https://" + host + "/" + tenant
		switch {
		case strings.Contains(r.URL.Path, "/discovery/instance"):
			reply(200, `{"tenant_discovery_endpoint":"`+base+`/v2.0/.well-known/openid-configuration","metadata":[`+
				`{"preferred_network":"`+host+`","preferred_cache":"`+host+`","aliases":["`+host+`"]}]}`)(w, r)
		case strings.HasSuffix(r.URL.Path, "/openid-configuration"):
			reply(200, fmt.Sprintf(`{"issuer":%q,"authorization_endpoint":%q,"token_endpoint":%q}`,
				base+"/v2.0", base+"/oauth2/v2.0/authorize", base+"/oauth2/v2.0/token"))(w, r)
		default:
			_ = r.ParseForm()
			reply(200, fmt.Sprintf(`{"token_type":"Bearer","expires_in":3600,"access_token":"entra-%s-%s"}`, mark,
				r.Form.Get("client_id")))(w, r)
		}
	}
}

// exchanges gives a refresh token of three hours for any of Entra's.
func exchanges(now func() time.Time) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		whose := strings.TrimPrefix(r.Form.Get("access_token"), "entra-"+mark+"-")
		token := unsigned(fmt.Sprintf(`{"exp":%d,"sub":%q,"mark":%q}`, now().Add(3*time.Hour).Unix(), whose, mark))
		reply(200, fmt.Sprintf(`{"refresh_token":%q}`, token))(w, r)
	}
}

func azure() *world {
	return &world{services: map[string]http.HandlerFunc{
		entra:       entraTokens(entra),
		acrRegistry: exchanges(time.Now),
	}}
}

func mustACR(t *testing.T, w *world, client string) Source {
	t.Helper()
	source, err := NewACR(at(acrRegistry), client, Cloud{Transport: w})
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// subject is whose refresh token a source gives.
func subject(t *testing.T, source Source) string {
	t.Helper()
	got := mustGet(t, source)
	parts := strings.Split(got.IdentityToken, ".")
	if got.Password != "" || got.Username != "" || len(parts) != 3 {
		t.Fatal("it is no identity token")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(payload), `"sub":"`)
	sub, _, _ := strings.Cut(rest, `"`)
	return sub
}

func TestACRHosts(t *testing.T) {
	bareEnvironment(t)
	for _, host := range []string{
		acrRegistry, "ACME.azurecr.io", "acme.azurecr.io:443", "acme-d0x1.azurecr.io",
		"acme.azurecr.cn", "acme.azurecr.us",
	} {
		if _, err := NewACR(at(host), "", Cloud{}); err != nil {
			t.Error(err)
		}
	}
	for _, host := range append(lookalikes(acrRegistry), "azurecr.io", "x.azurecr.io.evil.example", "a.b.azurecr.io",
		"evilazurecr.io", "acme.evil-azurecr.io", "a-b-c.azurecr.io", "mcr.microsoft.com", "acme.azurecr.com",
		"ghcr.io") {
		if _, err := NewACR(at(host), "", Cloud{}); err == nil {
			t.Errorf("%q is taken for a registry of Azure's", host)
		}
	}
	if _, err := NewACR(Registry{Address: acrRegistry, ImpliedPort: "80"}, "", Cloud{}); err == nil {
		t.Error("http is taken")
	}
	if _, err := NewACR(at(acrRegistry), "a b", Cloud{}); err == nil {
		t.Error("any text is taken for a client ID")
	}
}

// A pod's workload identity is shown to Entra, and what Entra gives for it to the
// registry, and nowhere else.
func TestACRWorkloadIdentity(t *testing.T) {
	bareEnvironment(t)
	t.Setenv(azureTokenFile, file(t, "federated-"+mark))
	t.Setenv(azureClient, clientA)
	t.Setenv("AZURE_TENANT_ID", tenant)
	w := azure()
	sources := map[string]Source{clientA: mustACR(t, w, ""), clientB: mustACR(t, w, clientB)}
	for range 2 {
		for client, source := range sources {
			if got := subject(t, source); got != client {
				t.Errorf("the token is %q's; want %q's", got, client)
			}
		}
	}

	shown := 0
	for _, asked := range w.to(entra) {
		if strings.Contains(asked.body, "federated-"+mark) {
			shown++
			if !strings.HasPrefix(asked.form().Get("scope"), acrAudience) {
				t.Errorf("the scope is %q", asked.form().Get("scope"))
			}
		}
	}
	exchanged := w.to(acrRegistry)
	if shown != 2 || len(exchanged) != 2 {
		t.Errorf("%d tokens of Entra, %d exchanges; want two of each", shown, len(exchanged))
	}
	for _, e := range exchanged {
		form := e.form()
		if e.method != http.MethodPost || e.uri != "/oauth2/exchange" || form.Get("grant_type") != "access_token" ||
			form.Get("service") != acrRegistry || !strings.HasPrefix(form.Get("access_token"), "entra-"+mark) {
			t.Errorf("the exchange was %s %s", e.method, e.uri)
		}
	}
	for _, host := range w.hosts() {
		if host != entra && host != acrRegistry && host != "login.microsoft.com" {
			t.Errorf("%s was asked", host)
		}
	}
}

func TestACRPrincipal(t *testing.T) {
	bareEnvironment(t)
	t.Setenv(azureClient, clientA)
	t.Setenv("AZURE_TENANT_ID", tenant)
	t.Setenv(azureSecret, "secret-"+mark)
	w := azure()
	if got := subject(t, mustACR(t, w, "")); got != clientA {
		t.Errorf("the token is %q's", got)
	}
}

// A registry in China has its Entra there.
func TestACRSovereign(t *testing.T) {
	bareEnvironment(t)
	t.Setenv(azureClient, clientA)
	t.Setenv("AZURE_TENANT_ID", tenant)
	t.Setenv(azureSecret, "secret-"+mark)
	const china, registry = "login.chinacloudapi.cn", "acme.azurecr.cn"
	w := &world{services: map[string]http.HandlerFunc{
		china:                              entraTokens(china),
		"login.partner.microsoftonline.cn": entraTokens("login.partner.microsoftonline.cn"),
		registry:                           exchanges(time.Now),
	}}
	source, err := NewACR(at(registry), "", Cloud{Transport: w})
	if err != nil {
		t.Fatal(err)
	}
	if got := subject(t, source); got != clientA {
		t.Errorf("the token is %q's", got)
	}
	w.never(t, entra)
}

// A machine's managed identity: the metadata service gives Entra's token.
func TestACRManagedIdentity(t *testing.T) {
	bareEnvironment(t)
	w := azure()
	w.services[machine] = func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Metadata") != "true" ||
			r.URL.Query().Get("resource") != "https://containerregistry.azure.net" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		client := r.URL.Query().Get("client_id")
		reply(200, fmt.Sprintf(`{"access_token":"entra-%s-%s","expires_in":"3600","expires_on":"%d","resource":"x",`+
			`"token_type":"Bearer"}`, mark, client, time.Now().Add(time.Hour).Unix()))(w, r)
	}
	if got := subject(t, mustACR(t, w, clientB)); got != clientB {
		t.Errorf("the token is %q's", got)
	}
	if got := subject(t, mustACR(t, w, "")); got != "" {
		t.Errorf("the token is %q's; want the machine's own", got)
	}
}

// The refresh token is exchanged anew before it ends.
func TestACRExpiry(t *testing.T) {
	bareEnvironment(t)
	t.Setenv(azureClient, clientA)
	t.Setenv("AZURE_TENANT_ID", tenant)
	t.Setenv(azureSecret, "secret-"+mark)
	c := newClock()
	w := azure()
	w.services[acrRegistry] = exchanges(c.now)
	made, err := NewACR(at(acrRegistry), "", Cloud{Transport: w, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	source := made.(*renewing)
	source.spread = func() float64 { return 0 }
	for i, step := range []time.Duration{0, 2*time.Hour + 49*time.Minute, 2 * time.Minute} {
		c.move(step)
		mustGet(t, source)
		settle(t, source)
		if n, want := len(w.to(acrRegistry)), []int{1, 1, 2}[i]; n != want {
			t.Errorf("step %d: %d exchanges; want %d", i, n, want)
		}
	}
}

func TestACRRefusals(t *testing.T) {
	for _, tt := range []struct {
		name            string
		entra, registry http.HandlerFunc
		tokenFile       string
		want            string
	}{
		{
			"Entra refuses",
			reply(401, `{"error":"invalid_client","error_description":"AADSTS700016: `+mark+
				`","error_codes":[700016]}`),
			nil, "", "refused (AADSTS700016)",
		},
		{"Entra's garbage", reply(500, mark), nil, "", "no token came from Entra"},
		{"Entra redirects", redirect("https://evil.example/"), nil, "", "no token came from Entra"},
		{"no right to the registry", entraTokens(entra), reply(401, mark), "", "/oauth2/exchange answered 401"},
		{"no exchange", entraTokens(entra), reply(404, mark), "", "/oauth2/exchange answered 404"},
		{
			"exchange redirects", entraTokens(entra), redirect("https://evil.example/"),
			"",
			"/oauth2/exchange answered 307",
		},
		{"exchange's garbage", entraTokens(entra), reply(200, mark), "", "sent no refresh token"},
		{
			"control characters", entraTokens(entra), reply(200, `{"refresh_token":"a\r\nX: `+mark+`"}`), "",
			"sent no refresh token",
		},
		{"no token file", entraTokens(entra), nil, "/nowhere/federated", "/nowhere/federated"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bareEnvironment(t)
			t.Setenv(azureTokenFile, file(t, "federated-"+mark))
			t.Setenv(azureClient, clientA)
			t.Setenv("AZURE_TENANT_ID", tenant)
			if tt.tokenFile != "" {
				t.Setenv(azureTokenFile, tt.tokenFile)
			}
			w := &world{services: map[string]http.HandlerFunc{
				entra:          tt.entra,
				acrRegistry:    tt.registry,
				"evil.example": reply(200, `{"refresh_token":"x"}`),
			}}
			source := mustACR(t, w, "")
			_, err := source.Get(t.Context(), repo)
			wantError(t, err, tt.want)
			if identityOf(err) != "workload identity "+clientA {
				t.Errorf("it is about %q", identityOf(err))
			}
			w.never(t, "evil.example")
		})
	}
}

// Without any identity, no tool of a command line is run, though one is at hand.
func TestACRNoIdentity(t *testing.T) {
	bareEnvironment(t)
	dir := t.TempDir()
	ran := dir + "/ran"
	script(t, dir+"/az", "touch "+ran)
	t.Setenv("PATH", dir)
	const client = "cccccccc-1111-1111-1111-111111111111" // the library has a memory for the machine's own
	source := mustACR(t, azure(), client)
	_, err := source.Get(t.Context(), repo)
	wantError(t, err, "no token came from Entra")
	if identityOf(err) != "managed identity "+client {
		t.Errorf("it is about %q", identityOf(err))
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("az was run")
	}
}
