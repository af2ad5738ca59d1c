package config

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/policy/strictyaml"
)

// passthrough is the type of auth that shows a registry each client's own.
const passthrough = "passthrough"

// maxPluginTime bounds auth.timeout.
const maxPluginTime = 2 * time.Minute

// authType is what one type of upstreams.auth reads.
type authType struct {
	name  string
	needs []string // keys that must be there
	takes []string // keys that may be there
}

// authTypes are all types. realms are for those whose credentials a token realm
// may see at all; those of clouds stay at the cloud's hosts.
var authTypes = []authType{
	{name: "anonymous"},
	{name: "basic", needs: []string{"username", "passwordFile"}, takes: []string{"realms"}},
	{name: "dockerConfig", needs: []string{"file"}, takes: []string{"realms"}},
	{name: "token", needs: []string{"file"}},
	{name: "ecr", takes: []string{"roleARN"}},
	{name: "gcr", takes: []string{"file"}},
	{name: "acr", takes: []string{"clientID"}},
	{name: "credentialProvider", needs: []string{"command"}, takes: []string{"args", "env", "timeout", "realms"}},
	{name: passthrough, takes: []string{"realms"}},
}

// variable is the name of an environment variable.
var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// keys are the keys that are set.
func (a Auth) keys() []string {
	var set []string
	for _, key := range []struct {
		name string
		set  bool
	}{
		{"username", a.Username != ""},
		{"passwordFile", a.PasswordFile != ""},
		{"file", a.File != ""},
		{"realms", len(a.Realms) > 0},
		{"roleARN", a.RoleARN != ""},
		{"clientID", a.ClientID != ""},
		{"command", a.Command != ""},
		{"args", len(a.Args) > 0},
		{"env", len(a.Env) > 0},
		{"timeout", a.Timeout != 0},
	} {
		if key.set {
			set = append(set, key.name)
		}
	}
	return set
}

// upstreamAuth checks where the credentials of one upstream come from.
func (k *checks) upstreamAuth(path string, a Auth) {
	set := a.keys()
	if a.Type == "" {
		if len(set) > 0 {
			k.add(path, "auth has credentials and no type: write type: %s", guessedType(set))
		}
		return
	}

	i := slices.IndexFunc(authTypes, func(t authType) bool { return t.name == a.Type })
	if i < 0 {
		k.unknownAuth(path+".type", a.Type)
		return
	}
	of := authTypes[i]

	for _, key := range of.needs {
		if !slices.Contains(set, key) {
			k.add(path, "auth type %s takes %s", of.name, strings.Join(of.needs, " and "))
			break
		}
	}
	for _, key := range set {
		if !slices.Contains(of.needs, key) && !slices.Contains(of.takes, key) {
			k.add(path+"."+key, "auth type %s takes no %s%s", of.name, key, whose(key))
		}
	}
	if a.Command != "" {
		k.plugin(path, a)
	}
}

// guessedType is the first type that takes all keys that are set.
func guessedType(set []string) string {
	var fit []string
	for _, t := range authTypes {
		all := true
		for _, key := range set {
			all = all && (slices.Contains(t.needs, key) || slices.Contains(t.takes, key))
		}
		if all {
			fit = append(fit, t.name)
		}
	}
	if len(fit) == 0 {
		return "basic or type: dockerConfig"
	}
	return strings.Join(fit, " or type: ")
}

// whose says which types a key is for.
func whose(key string) string {
	var of []string
	for _, t := range authTypes {
		if slices.Contains(t.needs, key) || slices.Contains(t.takes, key) {
			of = append(of, t.name)
		}
	}
	return "; it is for " + strings.Join(of, " and ")
}

func (k *checks) unknownAuth(path, name string) {
	var names []string
	for _, t := range authTypes {
		names = append(names, t.name)
	}
	if meant, ok := strictyaml.Nearest(name, names); ok {
		k.add(path, "auth type %q; did you mean %q?", name, meant)
		return
	}
	k.add(path, "auth type %q; it must be one of: %s", name, strings.Join(names, ", "))
}

// plugin checks how a credential provider is run.
func (k *checks) plugin(path string, a Auth) {
	if a.Timeout > maxPluginTime {
		k.add(path+".timeout", "timeout must be at most %v", maxPluginTime)
	}
	for name, value := range a.Env {
		switch {
		case !variable.MatchString(name):
			k.add(path+".env", "env: %.50q is no name of a variable", name)
		case strings.ContainsRune(value, 0):
			k.add(path+".env", "env: the value of %s holds a zero byte", name)
		}
	}
}

// readEnv takes auth.env of every upstream from the nodes: viper writes its names
// in lower case.
func (c *Config) readEnv() {
	upstreams := child(c.nodes, "upstreams")
	if upstreams == nil || upstreams.Kind != yaml.SequenceNode {
		return
	}

	for i := range c.Upstreams {
		if i >= len(upstreams.Content) || len(c.Upstreams[i].Auth.Env) == 0 {
			continue
		}
		env := child(child(upstreams.Content[i], "auth"), "env")
		if env == nil || env.Kind != yaml.MappingNode {
			continue
		}
		c.Upstreams[i].Auth.Env = map[string]string{}
		for j := 0; j+1 < len(env.Content); j += 2 {
			c.Upstreams[i].Auth.Env[env.Content[j].Value] = env.Content[j+1].Value
		}
	}
}
