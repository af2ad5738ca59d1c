// Package config knows the configuration file: its keys, the environment laid
// over them, and every problem with its place. It opens no listener, asks no
// registry and builds nothing; the rooms that are configured do.
package config

import (
	"path/filepath"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/cmd/pullgate/imagename"
	"github.com/pullgate/pullgate/policy"
)

// Config is the configuration file, with PULLGATE_* environment variables laid
// over its scalars. config.example.yaml says the same with comments. What Read
// returned must not be changed; a changed copy is a configuration of its own.
type Config struct {
	Listen          string        `mapstructure:"listen"`
	Admin           Admin         `mapstructure:"admin"`
	Mode            string        `mapstructure:"mode"`
	TLS             TLS           `mapstructure:"tls"`
	Clients         Clients       `mapstructure:"clients"`
	Log             Log           `mapstructure:"log"`
	Drain           time.Duration `mapstructure:"drain"`
	Upstreams       []Upstream    `mapstructure:"upstreams"`
	DefaultUpstream string        `mapstructure:"defaultUpstream"`
	DefaultAction   string        `mapstructure:"defaultAction"`
	Canary          string        `mapstructure:"canary"`
	PolicyFiles     []string      `mapstructure:"policyFiles"`
	Policies        []any         `mapstructure:"policies"`   // read from the YAML nodes, for lines and case
	TrustRoots      []any         `mapstructure:"trustRoots"` // likewise
	Verdicts        Verdicts      `mapstructure:"verdicts"`
	Manifests       Manifests     `mapstructure:"manifests"`
	State           State         `mapstructure:"state"`
	Decisions       Decisions     `mapstructure:"decisions"`
	Intercept       Intercept     `mapstructure:"intercept"`
	Limits          Limits        `mapstructure:"limits"`

	Database              string `mapstructure:"database"` // URL of the one that replicas share; empty: none
	DatabasePasswordFile  string `mapstructure:"databasePasswordFile"`
	DatabaseNamespaceFile string `mapstructure:"databaseNamespaceFile"`

	file  string
	nodes *yaml.Node
}

// Admin is the port for probes, scrapes and questions about decisions.
type Admin struct {
	Listen    string   `mapstructure:"listen"`
	Hostnames []string `mapstructure:"hostnames"` // Host headers it answers, besides loopback's and its own address
}

// TLS is the certificate of the port for pulls; without one it speaks http.
type TLS struct {
	CertFile     string `mapstructure:"certFile"`
	KeyFile      string `mapstructure:"keyFile"`
	ClientCAFile string `mapstructure:"clientCAFile"` // who issues the certificates of clients
}

// Intercept is where runtimes reach registries through the gate as their proxy.
type Intercept struct {
	Listen     string   `mapstructure:"listen"`     // for HTTPS_PROXY; empty: none
	TLSListen  string   `mapstructure:"tlsListen"`  // for TLS that was redirected; empty: none
	CACertFile string   `mapstructure:"caCertFile"` // of the authority that nodes trust
	CAKeyFile  string   `mapstructure:"caKeyFile"`
	Tunnel     []string `mapstructure:"tunnel"` // hosts, with * for a label, that are reached past the gate
}

// On reports whether anything is intercepted.
func (i Intercept) On() bool { return i.Listen != "" || i.TLSListen != "" }

// Log is how serve logs.
type Log struct {
	Level  string `mapstructure:"level"`
	Format string `mapstructure:"format"`
}

// Upstream is a registry that images are pulled from.
type Upstream struct {
	Host      string   `mapstructure:"host"` // * stands for a label
	URL       string   `mapstructure:"url"`
	URLs      []string `mapstructure:"urls"` // instead of URL: mirrors, in order
	CAFile    string   `mapstructure:"caFile"`
	Hostnames []string `mapstructure:"hostnames"`
	Auth      Auth     `mapstructure:"auth"`

	Blobs       string   `mapstructure:"blobs"`       // stream, redirect; empty: stream
	Stores      []string `mapstructure:"stores"`      // hosts inside that redirects may lead to
	Concurrency int      `mapstructure:"concurrency"` // requests at once; 0: the default
}

// Auth is where an upstream's credentials come from. Which keys a type reads,
// authTypes says.
type Auth struct {
	Type         string   `mapstructure:"type"`
	Username     string   `mapstructure:"username"`
	PasswordFile string   `mapstructure:"passwordFile"`
	File         string   `mapstructure:"file"`
	Realms       []string `mapstructure:"realms"`
	RoleARN      string   `mapstructure:"roleARN"`
	ClientID     string   `mapstructure:"clientID"`

	Command string            `mapstructure:"command"`
	Args    []string          `mapstructure:"args"`
	Env     map[string]string `mapstructure:"env"`
	Timeout time.Duration     `mapstructure:"timeout"`
}

// isSecret reports whether the upstream is asked with credentials of the gate.
func (a Auth) isSecret() bool {
	return a.Type != "" && a.Type != "anonymous" && a.Type != passthrough
}

// Verdicts is how long and how many verdicts are remembered.
type Verdicts struct {
	TTL          time.Duration `mapstructure:"ttl"`
	DenyTTL      time.Duration `mapstructure:"denyTTL"`
	MaxEntries   int64         `mapstructure:"maxEntries"`
	StaleIfError time.Duration `mapstructure:"staleIfError"`
}

// Manifests is how long and how many manifests are remembered.
type Manifests struct {
	MaxBytes Size          `mapstructure:"maxBytes"`
	TagTTL   time.Duration `mapstructure:"tagTTL"`
	Recheck  time.Duration `mapstructure:"recheck"`
}

// State is where the gate keeps what it has learned.
type State struct {
	Path     string `mapstructure:"path"`
	MaxBytes Size   `mapstructure:"maxBytes"`
}

// Decisions is where decisions are recorded.
type Decisions struct {
	To       string `mapstructure:"to"`
	File     string `mapstructure:"file"`
	MaxBytes Size   `mapstructure:"maxBytes"`
	Keep     int    `mapstructure:"keep"` // older files beside the current one
}

// Limits bound what a client or an upstream can make the gate do.
type Limits struct {
	ManifestBytes    Size          `mapstructure:"manifestBytes"`
	Descriptors      int           `mapstructure:"descriptors"`
	PayloadBytes     Size          `mapstructure:"payloadBytes"`
	VerdictBytes     Size          `mapstructure:"verdictBytes"`
	Signatures       int           `mapstructure:"signatures"`
	VerdictsInFlight int           `mapstructure:"verdictsInFlight"`
	VerifyTimeout    time.Duration `mapstructure:"verifyTimeout"`
	ClientMisses     int           `mapstructure:"clientMisses"`

	BlobStreams       int  `mapstructure:"blobStreams"`       // at once
	ClientBlobStreams int  `mapstructure:"clientBlobStreams"` // at once, of one client
	BlobMinRate       Size `mapstructure:"blobMinRate"`       // per second
}

// File is the file that c was read from.
func (c *Config) File() string { return c.file }

// Path resolves a path of the configuration: a relative one is relative to the
// configuration's folder. An empty path stays empty.
func (c *Config) Path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(filepath.Dir(c.file), p)
}

// StatePath is the folder of the gate's state.
func (c *Config) StatePath() string { return c.Path(c.State.Path) }

// DecisionsFile is the file that decisions are written to.
func (c *Config) DecisionsFile() string {
	if c.Decisions.File == "" {
		return filepath.Join(c.StatePath(), "decisions.jsonl")
	}
	return c.Path(c.Decisions.File)
}

// GateMode is the mode of the whole gate.
func (c *Config) GateMode() policy.Mode {
	if c.Mode == "warn" {
		return policy.Warn
	}
	return policy.Enforce
}

// PolicyInput is what the policies are loaded from.
func (c *Config) PolicyInput() policy.Input {
	in := policy.Input{
		ConfigFile:        c.file,
		Dir:               filepath.Dir(c.file),
		Inline:            child(c.nodes, "policies"),
		TrustRoots:        child(c.nodes, "trustRoots"),
		Files:             c.PolicyFiles,
		FilesLine:         c.line("policyFiles"),
		DefaultAction:     c.DefaultAction,
		DefaultActionLine: c.line("defaultAction"),
		ImpliedPort:       c.impliedPort,
	}

	// A canary that is no image name has been reported by check.
	if canary, err := imagename.Parse(c.Canary); c.Canary != "" && err == nil {
		in.Canary, in.CanaryLine = c.Image(canary).Repository, c.line("canary")
	}
	return in
}
