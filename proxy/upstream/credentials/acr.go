package credentials

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azcloud "github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	azpolicy "github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// acrAudience is whom an Entra token is for that a registry takes, also when
// tokens for the resource manager are switched off.
const acrAudience = "https://containerregistry.azure.net/.default"

// The names of what the environment says to Azure's SDK.
const (
	azureTokenFile   = "AZURE_FEDERATED_TOKEN_FILE" //nolint:gosec // a variable's name
	azureSecret      = "AZURE_CLIENT_SECRET"        //nolint:gosec // a variable's name
	azureCertificate = "AZURE_CLIENT_CERTIFICATE_PATH"
	azureClient      = "AZURE_CLIENT_ID"
	azureAuthority   = "AZURE_AUTHORITY_HOST"
)

var (
	// acrHost matches a registry of Azure: its name may end in a dash and a hash.
	acrHost = regexp.MustCompile(`^[a-z0-9]+(?:-[a-z0-9]+)?\.azurecr\.(io|cn|us|de)$`)

	entraCode = regexp.MustCompile(`AADSTS[0-9]{4,9}`)
	azureID   = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)
)

// acr has Entra say who the gate is, and exchanges that at the registry for a
// refresh token, which the registry's token service takes.
type acr struct {
	host   string // the configured one: no answer names another
	client string // the identity's client ID; empty: the environment's
	cloud  Cloud
}

// NewACR is the source of a registry of Azure. Who the gate is says the
// environment: a workload identity, else a service principal, else the machine's
// managed identity. clientID, if it is not empty, chooses another identity of the
// workload or the machine. It is an error if the registry is at no host of
// Azure's.
func NewACR(registry Registry, clientID string, cloud Cloud) (Source, error) {
	host, err := registry.serviceHost()
	if err != nil {
		return nil, err
	}
	if !acrHost.MatchString(host) {
		return nil, fmt.Errorf("auth type acr is for hosts of Azure's registries, and %s is none: "+
			"they are called NAME.azurecr.io", registry.Address)
	}
	if clientID != "" && !azureID.MatchString(clientID) {
		return nil, errors.New("clientID is no ID of an identity")
	}

	a := &acr{host: host, client: clientID, cloud: cloud}
	return newRenewing(registry.Host, a.identity(), cloud.Now, a.fetch), nil
}

// identity is whom the gate is to Azure.
func (a *acr) identity() string {
	id := a.client
	if id == "" && azureID.MatchString(os.Getenv(azureClient)) {
		id = os.Getenv(azureClient)
	}

	kind := "managed identity"
	switch {
	case os.Getenv(azureTokenFile) != "":
		kind = "workload identity"
	case a.hasPrincipal():
		kind = "service principal"
	}
	if id == "" {
		return "the machine's " + kind
	}
	return kind + " " + id
}

func (a *acr) hasPrincipal() bool {
	return a.client == "" && os.Getenv(azureSecret)+os.Getenv(azureCertificate) != ""
}

func (a *acr) fetch(ctx context.Context) (lease, error) {
	source, err := a.source()
	if err != nil {
		return lease{}, fmt.Errorf("the Azure environment cannot be used: %s", acrWhy(err))
	}

	token, err := source.GetToken(ctx, azpolicy.TokenRequestOptions{Scopes: []string{acrAudience}})
	if err != nil {
		return lease{}, fmt.Errorf("no token came from Entra: %s", acrWhy(err))
	}

	return a.exchange(ctx, token.Token)
}

// source is what proves to Entra who the gate is. It is made anew each time, so
// that what it was given has no second memory. No tool of a command line is among
// them.
func (a *acr) source() (azcore.TokenCredential, error) {
	options := azcore.ClientOptions{
		Transport: a.cloud.client(),
		Retry:     azpolicy.RetryOptions{MaxRetries: 1, RetryDelay: 200 * time.Millisecond},
	}
	if os.Getenv(azureAuthority) == "" {
		options.Cloud = acrCloud(a.host)
	}

	switch file := os.Getenv(azureTokenFile); {
	case file != "":
		if _, err := os.Stat(file); err != nil { // the SDK's error would not say that it is the file
			return nil, err
		}
		return azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
			ClientOptions: options,
			ClientID:      a.client,
		})
	case a.hasPrincipal():
		return azidentity.NewEnvironmentCredential(&azidentity.EnvironmentCredentialOptions{ClientOptions: options})
	}

	managed := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: options}
	if id := a.client; id != "" {
		managed.ID = azidentity.ClientID(id)
	} else if id := os.Getenv(azureClient); id != "" {
		managed.ID = azidentity.ClientID(id)
	}
	return azidentity.NewManagedIdentityCredential(managed)
}

// acrCloud is the cloud that a registry is in.
func acrCloud(host string) azcloud.Configuration {
	switch {
	case strings.HasSuffix(host, ".cn"):
		return azcloud.AzureChina
	case strings.HasSuffix(host, ".us"):
		return azcloud.AzureGovernment
	}
	return azcloud.AzurePublic
}

// exchange gives the registry an Entra token for a refresh token. It goes to the
// configured host whatever a challenge says: its realm would let a registry send
// the token to anyone.
func (a *acr) exchange(ctx context.Context, token string) (lease, error) {
	form := url.Values{
		"grant_type":   {"access_token"},
		"service":      {a.host},
		"access_token": {token},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+a.host+"/oauth2/exchange",
		strings.NewReader(form.Encode()))
	if err != nil {
		return lease{}, errors.New("the exchange cannot be asked for")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")

	resp, err := a.cloud.client().Do(req)
	if err != nil {
		return lease{}, fmt.Errorf("%s cannot be reached: %s", a.host, acrWhy(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return lease{}, fmt.Errorf("%s/oauth2/exchange answered %d %s", a.host, resp.StatusCode,
			http.StatusText(resp.StatusCode))
	}

	var answer struct {
		Token string `json:"refresh_token"`
	}
	if err := readJSON(resp.Body, &answer); err != nil || !isShowable(answer.Token) {
		return lease{}, fmt.Errorf("%s/oauth2/exchange sent no refresh token", a.host)
	}
	return lease{shown: Credentials{IdentityToken: answer.Token}, until: a.end(answer.Token)}, nil
}

// end is when a token ends by its own word. It is not verified: it only says
// when to ask for another.
func (a *acr) end(token string) time.Time {
	var claims struct {
		Expires float64 `json:"exp"` // seconds since 1970
	}
	parts := strings.Split(token, ".")
	if len(parts) == 3 {
		payload, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
		if err == nil && json.Unmarshal(payload, &claims) == nil &&
			claims.Expires > 0 && claims.Expires < math.MaxInt32 {
			return time.Unix(int64(claims.Expires), 0)
		}
	}
	return a.cloud.now().Add(leastLife)
}

// acrWhy is what an error of Azure's SDK says, as far as it can hold no secret: it
// quotes the answer.
func acrWhy(err error) string {
	if code := entraCode.FindString(err.Error()); code != "" {
		return "refused (" + code + ")"
	}
	var refused *azidentity.AuthenticationFailedError
	if errors.As(err, &refused) && refused.RawResponse != nil {
		return fmt.Sprintf("it answered %d", refused.RawResponse.StatusCode)
	}
	if text := why(err); text != "" {
		return text
	}
	return "no workload identity, service principal or managed identity could be used"
}
