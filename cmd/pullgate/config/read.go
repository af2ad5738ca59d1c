package config

import (
	"bytes"
	"errors"
	"io"
	"os"
	"reflect"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/policy/strictyaml"
)

// MaxBytes bounds a configuration file.
const MaxBytes = 4 << 20

// keySeparator stands between the keys of a path in viper; a dot would split
// host names.
const keySeparator = "::"

// Read reads the file whole and returns every problem at once, with its place.
// environ, as os.Environ gives it, is laid over the file; nil lays nothing over
// it. The configuration is nil where the file could not be understood at all;
// with problems it is good only for knowing which files it names.
func Read(file string, environ []string) (*Config, []policy.Problem) {
	text, problem := readFile(file)
	if problem != nil {
		return nil, []policy.Problem{*problem}
	}

	nodes, problem := parse(file, text)
	if problem != nil {
		return nil, []policy.Problem{*problem}
	}

	c := &Config{file: file, nodes: nodes}
	keys := c.checkKeys()
	problems := keys.problems
	overlay, more := overlayOf(environ)
	problems = append(problems, more...)

	// What is wrong is left out, so that all else is looked at too.
	unread := keys.missing
	if len(keys.bad) > 0 {
		part := &readable{bad: keys.bad}
		if text, problem = part.text(file, nodes); problem != nil {
			return c, append(problems, *problem)
		}
		unread = append(unread, part.unread...)
	}
	if more := c.decode(text, overlay); len(more) > 0 {
		return c, append(problems, more...)
	}
	return c, append(problems, c.check(unread)...)
}

func readFile(file string) ([]byte, *policy.Problem) {
	f, err := os.Open(file)
	if err != nil {
		return nil, problemIn(file, 0, "open the configuration: %v", err)
	}
	defer f.Close()

	text, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err != nil || len(text) > MaxBytes {
		const must = "read the configuration: it must be a readable file of at most %d bytes"
		return nil, problemIn(file, 0, must, MaxBytes)
	}
	return text, nil
}

// parse returns the mapping that the file is.
func parse(file string, text []byte) (*yaml.Node, *policy.Problem) {
	var documents []*yaml.Node
	for document, err := range strictyaml.Documents(text) {
		if err != nil {
			return nil, syntaxProblem(file, text, err)
		}
		documents = append(documents, document)
	}

	if len(documents) > 1 {
		const more = "a second YAML document would be ignored: put everything into one"
		return nil, problemIn(file, documents[1].Line, more)
	}
	if len(documents) == 0 || len(documents[0].Content) == 0 || documents[0].Content[0].Kind != yaml.MappingNode {
		return nil, problemIn(file, 1, "the configuration must be a mapping, as in config.example.yaml")
	}
	return documents[0].Content[0], nil
}

func problemIn(file string, line int, format string, args ...any) *policy.Problem {
	p := policy.Position{File: file, Line: line}.Problem(format, args...)
	return &p
}

// checkKeys finds what viper would bend or drop without a word.
func (c *Config) checkKeys() *keyCheck {
	k := &keyCheck{bad: map[*yaml.Node]bool{}}
	root := strictyaml.Value{Node: c.nodes, File: c.file}
	k.unknown(root, knownKeys())
	k.mistyped(root, reflect.TypeFor[Config]())
	return k
}

// decode fills c from the text, the defaults and the overlay.
func (c *Config) decode(text []byte, overlay map[string]string) []policy.Problem {
	v := viper.NewWithOptions(viper.KeyDelimiter(keySeparator))
	v.SetConfigType("yaml")
	for _, d := range defaults {
		v.SetDefault(d.key, d.value)
		if value, ok := overlay[d.key]; ok {
			v.Set(d.key, value)
		}
	}

	if err := v.ReadConfig(bytes.NewReader(text)); err != nil {
		return []policy.Problem{c.Problem("", "%v", err)}
	}

	hooks := mapstructure.ComposeDecodeHookFunc(
		mapstructure.StringToTimeDurationHookFunc(),
		mapstructure.TextUnmarshallerHookFunc(),
	)
	if err := v.Unmarshal(c, viper.DecodeHook(hooks)); err != nil {
		return c.decodeProblems(err)
	}
	c.readEnv()
	return nil
}

// decodeProblems gives each error of the decoder the line of its key, which the
// decoder names in quotes: 'limits.signatures', 'upstreams[0].host'.
func (c *Config) decodeProblems(err error) []policy.Problem {
	var joined interface{ Unwrap() []error }
	errs := []error{err}
	if errors.As(err, &joined) {
		errs = joined.Unwrap()
	}

	var list []policy.Problem
	for _, e := range errs {
		line := 0
		if _, rest, ok := strings.Cut(e.Error(), "'"); ok {
			name, _, _ := strings.Cut(rest, "'")
			path := strings.FieldsFunc(name, func(r rune) bool { return r == '.' || r == '[' || r == ']' })
			line = c.line(path...)
		}
		list = append(list, *problemIn(c.file, line, "%v", e))
	}
	return list
}
