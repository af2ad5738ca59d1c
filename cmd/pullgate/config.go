package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/cmd/pullgate/imagename"
	"github.com/pullgate/pullgate/cmd/pullgate/version"
	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy/upstream"
)

// config is the configuration file, with PULLGATE_* environment variables laid
// over its scalars. config.example.yaml says the same with comments.
type config struct {
	Listen          string           `mapstructure:"listen"`
	Admin           adminConfig      `mapstructure:"admin"`
	Mode            string           `mapstructure:"mode"`
	TLS             tlsConfig        `mapstructure:"tls"`
	Clients         clientsConfig    `mapstructure:"clients"`
	Log             logConfig        `mapstructure:"log"`
	Drain           time.Duration    `mapstructure:"drain"`
	Upstreams       []upstreamConfig `mapstructure:"upstreams"`
	DefaultUpstream string           `mapstructure:"defaultUpstream"`
	DefaultAction   string           `mapstructure:"defaultAction"`
	Canary          string           `mapstructure:"canary"`
	PolicyFiles     []string         `mapstructure:"policyFiles"`
	Policies        []any            `mapstructure:"policies"`   // read from the YAML nodes, for lines and case
	TrustRoots      []any            `mapstructure:"trustRoots"` // likewise
	Verdicts        verdictsConfig   `mapstructure:"verdicts"`
	Manifests       manifestsConfig  `mapstructure:"manifests"`
	State           stateConfig      `mapstructure:"state"`
	Decisions       decisionsConfig  `mapstructure:"decisions"`
	Limits          limitsConfig     `mapstructure:"limits"`

	file  string
	dir   string
	nodes *yaml.Node
}

type adminConfig struct {
	Listen string `mapstructure:"listen"`
}

type tlsConfig struct {
	CertFile     string `mapstructure:"certFile"`
	KeyFile      string `mapstructure:"keyFile"`
	ClientCAFile string `mapstructure:"clientCAFile"`
}

type clientsConfig struct {
	Auth         string `mapstructure:"auth"`
	HtpasswdFile string `mapstructure:"htpasswdFile"`
}

type logConfig struct {
	Level  string `mapstructure:"level"`
	Format string `mapstructure:"format"`
}

type upstreamConfig struct {
	Host      string     `mapstructure:"host"`
	URL       string     `mapstructure:"url"`
	CAFile    string     `mapstructure:"caFile"`
	Hostnames []string   `mapstructure:"hostnames"`
	Auth      authConfig `mapstructure:"auth"`
}

type authConfig struct {
	Type         string   `mapstructure:"type"`
	Username     string   `mapstructure:"username"`
	PasswordFile string   `mapstructure:"passwordFile"`
	File         string   `mapstructure:"file"`
	Realms       []string `mapstructure:"realms"`
}

type verdictsConfig struct {
	TTL          time.Duration `mapstructure:"ttl"`
	DenyTTL      time.Duration `mapstructure:"denyTTL"`
	MaxEntries   int64         `mapstructure:"maxEntries"`
	StaleIfError time.Duration `mapstructure:"staleIfError"`
}

type manifestsConfig struct {
	MaxBytes size          `mapstructure:"maxBytes"`
	TagTTL   time.Duration `mapstructure:"tagTTL"`
}

type stateConfig struct {
	Path     string         `mapstructure:"path"`
	MaxBytes size           `mapstructure:"maxBytes"`
	Redis    map[string]any `mapstructure:"redis"`
}

type decisionsConfig struct {
	To       string `mapstructure:"to"`
	File     string `mapstructure:"file"`
	MaxBytes size   `mapstructure:"maxBytes"`
	Keep     int    `mapstructure:"keep"`
}

// decisionFile is where decisions are written.
func (c *config) decisionFile() string {
	if c.Decisions.File == "" {
		return filepath.Join(c.path(c.State.Path), "decisions.jsonl")
	}
	return c.path(c.Decisions.File)
}

type limitsConfig struct {
	ManifestBytes    size          `mapstructure:"manifestBytes"`
	Descriptors      int           `mapstructure:"descriptors"`
	PayloadBytes     size          `mapstructure:"payloadBytes"`
	VerdictBytes     size          `mapstructure:"verdictBytes"`
	Signatures       int           `mapstructure:"signatures"`
	VerdictsInFlight int           `mapstructure:"verdictsInFlight"`
	VerifyTimeout    time.Duration `mapstructure:"verifyTimeout"`
	ClientMisses     int           `mapstructure:"clientMisses"`
}

// size is a number of bytes, written 4MiB, 1GiB or 4096.
type size int64

// UnmarshalText reads a size.
func (s *size) UnmarshalText(text []byte) error {
	digits := strings.TrimRight(string(text), "KMGTiB")
	units := map[string]int64{"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
	unit, ok := units[string(text)[len(digits):]]
	n, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || n <= 0 || n > (1<<62)/unit {
		return fmt.Errorf("%q is no size: write a number of bytes, or one with KiB, MiB or GiB", text)
	}
	*s = size(n * unit)
	return nil
}

var defaults = []struct { // every scalar, so that PULLGATE_* reaches each
	key   string
	value any
}{
	{"listen", "127.0.0.1:5000"},
	{"admin::listen", "127.0.0.1:5001"},
	{"mode", "enforce"},
	{"tls::certFile", ""},
	{"tls::keyFile", ""},
	{"tls::clientCAFile", ""},
	{"clients::auth", "none"},
	{"clients::htpasswdFile", ""},
	{"log::level", "info"},
	{"log::format", "text"},
	{"drain", "30s"},
	{"defaultUpstream", ""},
	{"defaultAction", "deny"},
	{"canary", ""},
	{"verdicts::ttl", "1h"},
	{"verdicts::denyTTL", "30s"},
	{"verdicts::maxEntries", 1_000_000},
	{"verdicts::staleIfError", "24h"},
	{"manifests::maxBytes", "256MiB"},
	{"manifests::tagTTL", "0s"},
	{"state::path", "./pullgate-state"},
	{"state::maxBytes", "1GiB"},
	{"decisions::to", "file"},
	{"decisions::file", ""},
	{"decisions::maxBytes", "100MiB"},
	{"decisions::keep", 5},
	{"limits::manifestBytes", "4MiB"},
	{"limits::descriptors", 2000},
	{"limits::payloadBytes", "8MiB"},
	{"limits::verdictBytes", "16MiB"},
	{"limits::signatures", 64},
	{"limits::verdictsInFlight", 64},
	{"limits::verifyTimeout", "15s"},
	{"limits::clientMisses", 600},
}

const (
	maxConfigBytes = 4 << 20
	maxVerdicts    = 100_000_000 // entries; each takes some hundred bytes

	maxDecisionFiles = 1000
)

// readConfig reads one file whole; the problems carry their lines. environ is
// laid over it, as os.Environ gives it; nil: nothing is.
func readConfig(file string, environ []string) (*config, []policy.Problem) {
	one := func(line int, format string, args ...any) []policy.Problem {
		return []policy.Problem{policy.Position{File: file, Line: line}.Problem(format, args...)}
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, one(0, "open the configuration: %v", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
	if err != nil || len(text) > maxConfigBytes {
		return nil, one(0, "read the configuration: it must be a readable file of at most %d bytes", maxConfigBytes)
	}
	c := &config{file: file, dir: filepath.Dir(file)}
	var doc, more yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, one(0, "%v", err)
	}
	if err := decoder.Decode(&more); err == nil {
		return nil, one(more.Line, "a second YAML document would be ignored: put everything into one")
	}
	if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, one(1, "the configuration must be a mapping, as in config.example.yaml")
	}
	c.nodes = doc.Content[0]
	var problems []policy.Problem
	for _, p := range unknownKeys(c.nodes, "", knownKeys()) {
		p.File = file
		problems = append(problems, p)
	}
	for _, p := range mistyped(c.nodes, "", reflect.TypeFor[config]()) {
		p.File = file
		problems = append(problems, p)
	}
	overlay, wrong := overlayOf(environ)
	if problems = append(problems, wrong...); len(problems) > 0 {
		return c, problems
	}
	v := viper.NewWithOptions(viper.KeyDelimiter("::")) // a dot would split hostnames
	v.SetConfigType("yaml")
	for _, d := range defaults {
		v.SetDefault(d.key, d.value)
		if value, ok := overlay[d.key]; ok {
			v.Set(d.key, value)
		}
	}
	if err := v.ReadConfig(bytes.NewReader(text)); err != nil {
		return nil, one(0, "%v", err)
	}
	hooks := mapstructure.ComposeDecodeHookFunc(
		mapstructure.StringToTimeDurationHookFunc(),
		mapstructure.TextUnmarshallerHookFunc(),
	)
	if err := v.Unmarshal(c, viper.DecodeHook(hooks)); err != nil {
		return nil, c.decodeProblems(err)
	}
	return c, c.check()
}

// lookup finds the node of a key path, for its line.
func (c *config) line(path ...string) int {
	node := c.nodes
	for _, key := range path {
		node = child(node, key)
		if node == nil {
			return 0
		}
	}
	return node.Line
}

func child(node *yaml.Node, key string) *yaml.Node {
	if node == nil {
		return nil
	}
	if i, err := strconv.Atoi(key); err == nil && node.Kind == yaml.SequenceNode && i < len(node.Content) {
		return node.Content[i]
	}
	for i := 0; node.Kind == yaml.MappingNode && i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == key {
			return node.Content[i+1]
		}
	}
	return nil
}

func (c *config) problem(line int, format string, args ...any) policy.Problem {
	return policy.Position{File: c.file, Line: line}.Problem(format, args...)
}

// decodeProblems gives each error of the decoder the line of its key.
func (c *config) decodeProblems(err error) []policy.Problem {
	var list []policy.Problem
	var joined interface{ Unwrap() []error }
	errs := []error{err}
	if errors.As(err, &joined) {
		errs = joined.Unwrap()
	}
	for _, e := range errs {
		line := 0
		if _, rest, ok := strings.Cut(e.Error(), "'"); ok {
			name, _, _ := strings.Cut(rest, "'")
			path := strings.FieldsFunc(name, func(r rune) bool { return r == '.' || r == '[' || r == ']' })
			line = c.line(path...)
		}
		list = append(list, c.problem(line, "%v", e))
	}
	return list
}

func (c *config) path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(c.dir, p)
}

// check says everything that is wrong beyond types.
func (c *config) check() []policy.Problem {
	var list []policy.Problem
	add := func(line int, format string, args ...any) { list = append(list, c.problem(line, format, args...)) }
	oneOf := func(what, got string, line int, allowed ...string) {
		if !slices.Contains(allowed, got) {
			add(line, "%s is %q; it must be one of: %s", what, got, strings.Join(allowed, ", "))
		}
	}
	oneOf("mode", c.Mode, c.line("mode"), "enforce", "warn")
	oneOf("log.level", c.Log.Level, c.line("log", "level"), "debug", "info", "warn", "error")
	oneOf("log.format", c.Log.Format, c.line("log", "format"), "text", "json")
	oneOf("defaultAction", c.DefaultAction, c.line("defaultAction"), "deny", "warn", "allow")
	oneOf("decisions.to", c.Decisions.To, c.line("decisions", "to"), "file", "stdout", "otlp", "none")
	if c.Decisions.File != "" && c.Decisions.To != "file" {
		add(
			c.line("decisions", "file"),
			"decisions.file is set, and decisions.to is %s: remove one of them",
			c.Decisions.To,
		)
	}
	if c.Decisions.Keep > maxDecisionFiles {
		add(c.line("decisions", "keep"), "decisions.keep must be at most %d", maxDecisionFiles)
	}
	switch c.Clients.Auth {
	case "none", "anonymous":
	case "basic", "mtls":
		add(c.line("clients", "auth"), "clients.auth: %s is not supported yet", c.Clients.Auth)
	default:
		add(c.line("clients", "auth"), "clients.auth is %q; it must be none or anonymous", c.Clients.Auth)
	}
	if c.TLS.ClientCAFile != "" {
		add(c.line("tls", "clientCAFile"), "tls.clientCAFile is not supported yet")
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		add(c.line("tls"), "tls needs both certFile and keyFile")
	}
	if len(c.State.Redis) > 0 {
		add(c.line("state", "redis"), "state.redis is not supported yet")
	}
	for _, l := range []struct {
		value int64
		path  []string
	}{
		{int64(c.Limits.Descriptors), []string{"limits", "descriptors"}},
		{int64(c.Limits.Signatures), []string{"limits", "signatures"}},
		{int64(c.Limits.VerdictsInFlight), []string{"limits", "verdictsInFlight"}},
		{int64(c.Limits.VerifyTimeout), []string{"limits", "verifyTimeout"}},
		{int64(c.Limits.ClientMisses), []string{"limits", "clientMisses"}},
		{int64(c.Verdicts.TTL), []string{"verdicts", "ttl"}},
		{int64(c.Verdicts.DenyTTL), []string{"verdicts", "denyTTL"}},
		{c.Verdicts.MaxEntries, []string{"verdicts", "maxEntries"}},
		{int64(c.Drain), []string{"drain"}},
		{int64(c.Decisions.Keep), []string{"decisions", "keep"}},
	} {
		if l.value <= 0 {
			add(c.line(l.path...), "%s must be more than zero", strings.Join(l.path, "."))
		}
	}
	for _, l := range []struct {
		value, least size
		path         []string
	}{
		{c.Limits.ManifestBytes, 64 << 10, []string{"limits", "manifestBytes"}},
		{c.Limits.PayloadBytes, 64 << 10, []string{"limits", "payloadBytes"}},
		{c.Limits.VerdictBytes, 1 << 20, []string{"limits", "verdictBytes"}},
		{c.Manifests.MaxBytes, 1 << 20, []string{"manifests", "maxBytes"}},
		{c.State.MaxBytes, 1 << 20, []string{"state", "maxBytes"}},
		{c.Decisions.MaxBytes, 1 << 20, []string{"decisions", "maxBytes"}},
	} {
		if l.value < l.least {
			add(c.line(l.path...), "%s must be at least %d KiB", strings.Join(l.path, "."), l.least>>10)
		}
	}
	if c.Verdicts.MaxEntries > maxVerdicts {
		add(c.line("verdicts", "maxEntries"), "verdicts.maxEntries must be at most %d", maxVerdicts)
	}
	if c.Verdicts.StaleIfError < 0 {
		add(c.line("verdicts", "staleIfError"), "verdicts.staleIfError must not be negative")
	}
	if c.Clients.HtpasswdFile != "" {
		add(c.line("clients", "htpasswdFile"), "clients.htpasswdFile is not supported yet")
	}
	if c.Canary != "" {
		if repo, err := imagename.Parse(c.Canary); err != nil {
			add(c.line("canary"), "canary: %v", err)
		} else if !slices.ContainsFunc(c.Upstreams, func(u upstreamConfig) bool { return policy.FamiliarHost(u.Host) == repo.Host }) {
			add(c.line("canary"), "canary %s is on %s, which is not among the upstreams", c.Canary, repo.Host)
		}
	}
	if c.Manifests.TagTTL < 0 {
		add(c.line("manifests", "tagTTL"), "manifests.tagTTL must not be negative")
	}
	for what, addr := range map[string]string{"listen": c.Listen, "admin.listen": c.Admin.Listen} {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			add(c.line(strings.Split(what, ".")...), "%s is %q; write host:port, e.g. 127.0.0.1:5000", what, addr)
		}
	}
	return append(list, c.checkUpstreams()...)
}

func (c *config) checkUpstreams() []policy.Problem {
	var list []policy.Problem
	add := func(line int, format string, args ...any) { list = append(list, c.problem(line, format, args...)) }
	if len(c.Upstreams) == 0 {
		add(c.line("upstreams"), "upstreams is empty: list at least one registry, e.g. `- host: docker.io`")
	}
	hosts, names := map[string]bool{}, map[string]bool{}
	for i, u := range c.Upstreams {
		at := func(key ...string) int { return c.line(append([]string{"upstreams", strconv.Itoa(i)}, key...)...) }
		host := policy.FamiliarHost(u.Host)
		if host == "" || strings.ContainsAny(host, "/@ ") {
			add(at(), "an upstream needs host: the registry's name as images carry it, e.g. ghcr.io")
			continue
		}
		if hosts[host] {
			add(at("host"), "upstream %s is listed twice", host)
		}
		hosts[host] = true
		for _, n := range u.Hostnames {
			if names[strings.ToLower(n)] {
				add(at("hostnames"), "hostname %s selects two upstreams", n)
			}
			names[strings.ToLower(n)] = true
		}
		if u.URL != "" {
			if parsed, err := url.Parse(
				u.URL,
			); err != nil || parsed.Host == "" || parsed.Scheme != "https" && parsed.Scheme != "http" || parsed.RawQuery != "" || parsed.Fragment != "" ||
				parsed.User != nil {
				add(
					at("url"),
					"url must be http:// or https://, a host and perhaps a path, without user, query or fragment",
				) // not repeated: it may hold a password
			}
		}
		switch a := u.Auth; a.Type {
		case "", "anonymous":
			if a.Username+a.PasswordFile+a.File != "" || len(a.Realms) > 0 {
				add(at("auth"), "auth has credentials and no type: write type: basic or type: dockerConfig")
			}
		case "basic":
			if a.Username == "" || a.PasswordFile == "" || a.File != "" {
				add(at("auth"), "auth type basic takes username and passwordFile")
			}
		case "dockerConfig":
			if a.File == "" || a.Username+a.PasswordFile != "" {
				add(at("auth"), "auth type dockerConfig takes file")
			}
		case "token", "ecr", "gcr", "acr", "passthrough":
			add(at("auth"), "auth type %s is not supported yet", u.Auth.Type)
		default:
			add(at("auth"), "auth type %q; it must be anonymous, basic or dockerConfig", u.Auth.Type)
		}
	}
	if c.DefaultUpstream != "" && !hosts[policy.FamiliarHost(c.DefaultUpstream)] {
		add(c.line("defaultUpstream"), "defaultUpstream %s is not among the upstreams", c.DefaultUpstream)
	}
	if c.needsClients(c.Listen) {
		add(
			c.line("listen"),
			"upstream credentials behind a listener that is not loopback let whoever reaches it read every private "+
				"image; write `clients: {auth: anonymous}` if that is meant",
		)
	}
	return list
}

// needsClients reports upstream credentials that whoever reaches the listener
// addr could use, though nobody has said that this is meant.
func (c *config) needsClients(addr string) bool {
	secrets := slices.ContainsFunc(
		c.Upstreams,
		func(u upstreamConfig) bool { return u.Auth.Type != "" && u.Auth.Type != "anonymous" },
	)
	return secrets && !loopback(addr) && c.Clients.Auth != "anonymous"
}

func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// upstreams builds the clients of every configured registry.
func (c *config) upstreams(
	build func(upstreamConfig, upstream.Config) (*upstream.Upstream, error),
) (map[string]*upstream.Upstream, []policy.Problem) {
	made := map[string]*upstream.Upstream{}
	var list []policy.Problem
	for i, u := range c.Upstreams {
		line := c.line("upstreams", strconv.Itoa(i))
		uc := upstream.Config{Host: policy.FamiliarHost(u.Host), UserAgent: "pullgate/" + version.String()}
		if u.URL != "" {
			uc.URL, _ = url.Parse(u.URL) // checked in checkUpstreams
		}
		if u.CAFile != "" {
			pem, err := os.ReadFile(c.path(u.CAFile))
			roots := x509.NewCertPool()
			if err != nil || !roots.AppendCertsFromPEM(pem) {
				list = append(list, c.problem(line, "caFile %s holds no readable PEM certificate", u.CAFile))
				continue
			}
			uc.TLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
		}
		up, err := build(u, uc)
		if err != nil {
			list = append(list, c.problem(line, "upstream %s: %v", u.Host, err))
			continue
		}
		made[uc.Host] = up
	}
	return made, list
}
