package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/docker/cli/cli/config"
	"golang.org/x/net/publicsuffix"
)

// AuthType is how the gate shows who it is.
type AuthType int

const (
	// Anonymous shows nothing.
	Anonymous AuthType = iota
	// Basic is a user name and a password file.
	Basic
	// DockerConfig is a Docker config.json, credential helpers included.
	DockerConfig
)

// Auth is one upstream's credentials. Files are read each time a token is
// needed, so that rotation needs no reload.
type Auth struct {
	Type         AuthType
	Username     string
	PasswordFile string
	File         string // of DockerConfig
	// hosts that may get the credentials for a token, beside the registry's own registrable domain
	Realms []string
}

// secret is one set of credentials. It has no String: it must not be printed.
type secret struct {
	username, password string
	identityToken      string // OAuth 2 refresh token of a Docker config
}

func (s secret) empty() bool { return s == secret{} }

// credentials are an upstream's, bound to where they may go.
type credentials struct {
	auth Auth
	base *url.URL
	key  string // the server's name in a Docker config
}

func (a Auth) open(host string, base *url.URL) (*credentials, error) {
	c := &credentials{auth: a, base: base, key: base.Host}
	if host == "docker.io" && base.Host == "registry-1.docker.io" {
		c.key = "https://index.docker.io/v1/"
	}
	switch a.Type {
	case Anonymous:
		return c, nil
	case Basic:
		if a.Username == "" {
			return nil, errors.New("auth type basic needs username and passwordFile")
		}
	}
	_, err := c.read()
	return c, err
}

// any reports whether there are credentials for this registry.
func (c *credentials) any() bool {
	if c.auth.Type == DockerConfig {
		s, err := c.read()
		return err != nil || !s.empty()
	}
	return c.auth.Type != Anonymous
}

// read gets the credentials as of now.
func (c *credentials) read() (secret, error) {
	switch c.auth.Type {
	case Basic:
		b, err := os.ReadFile(c.auth.PasswordFile)
		if err != nil {
			return secret{}, fmt.Errorf("read passwordFile: %w", err)
		}
		password := strings.TrimRight(string(b), "\r\n")
		if password == "" {
			return secret{}, fmt.Errorf("passwordFile %s is empty", c.auth.PasswordFile)
		}
		return secret{username: c.auth.Username, password: password}, nil
	case DockerConfig:
		b, err := os.ReadFile(c.auth.File)
		if err != nil {
			return secret{}, fmt.Errorf("read Docker config: %w", err)
		}
		file, err := config.LoadFromReader(bytes.NewReader(b))
		if err != nil {
			return secret{}, fmt.Errorf(
				"docker config %s is not valid",
				c.auth.File,
			) // its parser's errors may quote it
		}
		found, err := file.GetAuthConfig(c.key)
		if err != nil {
			return secret{}, fmt.Errorf("docker config %s: its credential helper failed for %s", c.auth.File, c.key)
		}
		return secret{username: found.Username, password: found.Password, identityToken: found.IdentityToken}, nil
	}
	return secret{}, nil
}

// mayGoTo reports whether the credentials may be shown to a token realm: the
// registry's own host, its registrable domain, or a host the admin listed. A
// registry's word alone sends them nowhere (CVE-2026-33540).
func (c *credentials) mayGoTo(realm *url.URL) bool {
	if realm.Scheme != "https" && realm.Scheme != c.base.Scheme {
		return false
	}
	host, own := strings.ToLower(realm.Hostname()), strings.ToLower(c.base.Hostname())
	if host == own {
		return true
	}
	for _, r := range c.auth.Realms {
		if strings.EqualFold(r, host) || strings.EqualFold(r, realm.Host) {
			return true
		}
	}
	a, err1 := registrableDomain(host)
	b, err2 := registrableDomain(own)
	return err1 == nil && err2 == nil && a == b
}

// shared are domains below which strangers live next door, though the public
// suffix list does not say so; the names without a dot are those of private
// networks, of one cluster with many tenants for one.
var shared = []string{
	"azurecr.io",
	"azurecr.cn",
	"azurecr.us",
	"jfrog.io",
	"cloudsmith.io",
	"amazonaws.com",
	"amazonaws.com.cn",
	"pkg.dev",
	"ocir.io",
	"scw.cloud",
	"local",
	"internal",
	"lan",
	"intranet",
	"corp",
	"home",
	"private",
	"home.arpa",
}

// registrableDomain is the domain that one owner has below a public suffix.
func registrableDomain(host string) (string, error) {
	for _, s := range shared {
		if strings.HasSuffix(host, "."+s) {
			return "", errors.New("a domain of many owners")
		}
	}
	return publicsuffix.EffectiveTLDPlusOne(host)
}
