package credentials

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/auth/credentials"
	"cloud.google.com/go/compute/metadata"
)

const (
	// gcrUser is the user name under which Google's registries take an access
	// token for a password.
	gcrUser = "oauth2accesstoken"

	// gcrScope is the scope that Artifact Registry wants.
	gcrScope = "https://www.googleapis.com/auth/cloud-platform"

	// gcrFile is the variable that names a file of credentials.
	gcrFile = "GOOGLE_APPLICATION_CREDENTIALS"

	maxGCRFile = 1 << 20 // bytes
)

var (
	gcrHost = regexp.MustCompile(`^(?:(?:us|eu|asia)\.)?gcr\.io$|^[a-z0-9]+(?:-[a-z0-9]+)*-docker\.pkg\.dev$`)

	gcrCode  = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
	gcrEmail = regexp.MustCompile(`^[A-Za-z0-9._-]{1,100}@[A-Za-z0-9.-]{1,150}$`)
)

// gcrTypes are the types of files that are read. What else Google's library
// knows wants a person.
var gcrTypes = []credentials.CredType{
	credentials.ServiceAccount,
	credentials.ExternalAccount,
	credentials.ImpersonatedServiceAccount,
	credentials.AuthorizedUser,
}

// gcr asks Google for an access token: by a file, or of the metadata service of
// the machine.
type gcr struct {
	file  string
	cloud Cloud
}

// NewGCR is the source of a registry of Google, Artifact Registry or gcr.io. file
// holds a service account's key or the configuration of a workload identity
// federation; without one it is GOOGLE_APPLICATION_CREDENTIALS that names it, or
// the machine's metadata service is asked. It is an error if the registry is at
// no host of Google's, or if a file cannot be read.
func NewGCR(registry Registry, file string, cloud Cloud) (Source, error) {
	host, err := registry.serviceHost()
	if err != nil {
		return nil, err
	}
	if !gcrHost.MatchString(host) {
		return nil, fmt.Errorf("auth type gcr is for hosts of Google's registries, and %s is none: "+
			"they are called LOCATION-docker.pkg.dev, or gcr.io", registry.Address)
	}

	g := &gcr{file: file, cloud: cloud}
	if g.file == "" {
		g.file = os.Getenv(gcrFile)
	}
	who := "the machine's service account"
	if g.file != "" {
		read, err := g.read()
		if err != nil {
			return nil, err
		}
		who = read.identity(g.file)
	}
	return newRenewing(registry.Host, who, cloud.Now, g.fetch), nil
}

// gcrKey is a file of credentials.
type gcrKey struct {
	text  []byte
	Type  credentials.CredType `json:"type"`
	Email string               `json:"client_email"`
}

// identity is whose file it is.
func (k gcrKey) identity(file string) string {
	if gcrEmail.MatchString(k.Email) {
		return "service account " + k.Email
	}
	return "the account of " + file
}

// read reads the file. No error quotes it: it holds a key.
func (g *gcr) read() (gcrKey, error) {
	info, err := os.Stat(g.file)
	if err != nil {
		return gcrKey{}, fmt.Errorf("read Google's credentials: %w", err)
	}
	if info.Size() > maxGCRFile {
		return gcrKey{}, fmt.Errorf("%s is too large for a file of Google's credentials", g.file)
	}
	text, err := os.ReadFile(g.file)
	if err != nil {
		return gcrKey{}, fmt.Errorf("read Google's credentials: %w", err)
	}

	key := gcrKey{text: text}
	if json.Unmarshal(text, &key) != nil || !slices.Contains(gcrTypes, key.Type) {
		return gcrKey{}, fmt.Errorf("%s is no file of Google's credentials: its type must be service_account, "+
			"external_account, impersonated_service_account or authorized_user", g.file)
	}
	return key, nil
}

// fetch asks for a token. The file is read anew, so that a rotated key is noticed.
func (g *gcr) fetch(ctx context.Context) (lease, error) {
	if g.file == "" {
		return g.machine(ctx)
	}

	key, err := g.read()
	if err != nil {
		return lease{}, err
	}
	source, err := credentials.NewCredentialsFromJSON(key.Type, key.text, &credentials.DetectOptions{
		Scopes:              []string{gcrScope},
		Client:              g.cloud.client(),
		DisableAsyncRefresh: true,
		Logger:              slog.New(slog.DiscardHandler), // the library's would print what it sends
	})
	if err != nil {
		return lease{}, fmt.Errorf("%s cannot be used", g.file)
	}

	token, err := source.Token(ctx)
	if err != nil {
		return lease{}, fmt.Errorf("no access token came from Google: %s", gcrWhy(err))
	}
	return g.lease(token.Value, token.Expiry)
}

// machine asks the metadata service of the machine, which on GKE is that of the
// pod's workload identity.
func (g *gcr) machine(ctx context.Context) (lease, error) {
	var client *http.Client // nil: the library's, which uses no proxy
	if g.cloud.Transport != nil {
		client = g.cloud.client()
	}

	text, err := metadata.NewClient(client).GetWithContext(ctx,
		"instance/service-accounts/default/token?scopes="+url.QueryEscape(gcrScope))
	if err != nil {
		return lease{}, fmt.Errorf("the metadata service gives no access token: %s", gcrWhy(err))
	}

	var answer struct {
		Token   string `json:"access_token"`
		Expires int64  `json:"expires_in"` // seconds
	}
	if err := readJSON(strings.NewReader(text), &answer); err != nil {
		return lease{}, fmt.Errorf("the metadata service: %w", err)
	}

	until := time.Time{}
	if answer.Expires > 0 {
		until = g.cloud.now().Add(time.Duration(min(answer.Expires, 24*60*60)) * time.Second)
	}
	return g.lease(answer.Token, until)
}

func (g *gcr) lease(token string, until time.Time) (lease, error) {
	if !isShowable(token) {
		return lease{}, errors.New("no access token is in Google's answer")
	}
	if until.IsZero() {
		until = g.cloud.now().Add(leastLife)
	}
	return lease{shown: Credentials{Username: gcrUser, Password: token}, until: until}, nil
}

// gcrWhy is what an error of Google's libraries says, as far as it can hold no
// secret: they quote the answer.
func gcrWhy(err error) string {
	var refused *auth.Error
	if errors.As(err, &refused) && refused.Response != nil {
		var answer struct {
			Code string `json:"error"`
		}
		if json.Unmarshal(refused.Body, &answer) == nil && gcrCode.MatchString(answer.Code) {
			return "refused (" + answer.Code + ")"
		}
		return fmt.Sprintf("it answered %d", refused.Response.StatusCode)
	}

	var status *metadata.Error
	if errors.As(err, &status) {
		return fmt.Sprintf("it answered %d", status.Code)
	}
	var missing metadata.NotDefinedError
	if errors.As(err, &missing) {
		return "the machine has no service account"
	}
	if text := why(err); text != "" {
		return text
	}
	return "the key, or its configuration, cannot be used"
}
