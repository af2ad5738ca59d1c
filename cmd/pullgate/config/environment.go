package config

import (
	"regexp"
	"slices"
	"strings"

	"github.com/pullgate/pullgate/policy"
)

const environmentPrefix = "PULLGATE_"

// testVariables are this project's own, for its tests.
var testVariables = []string{"E2E", "TOOLS", "SOAK"}

// overlayOf returns the settings that the environment lays over the file, by
// their key. A variable that names no setting is a mistake, unless isForeign. An
// empty variable sets nothing.
func overlayOf(environ []string) (map[string]string, []policy.Problem) {
	known := map[string]string{}
	for _, d := range defaults {
		name := strings.ToUpper(strings.ReplaceAll(d.key, keySeparator, "_"))
		known[environmentPrefix+name] = d.key
	}

	overlay := map[string]string{}
	var problems []policy.Problem
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		rest, ours := strings.CutPrefix(name, environmentPrefix)
		if !ours || isForeign(rest, value) {
			continue
		}

		key, ok := known[name]
		if !ok {
			problems = append(problems, policy.Position{File: "environment"}.Problem(
				"%s is no setting: only single values can be set there, e.g. PULLGATE_LISTEN, "+
					"PULLGATE_LIMITS_VERIFYTIMEOUT",
				name,
			))
			continue
		}
		if value != "" {
			overlay[key] = value
		}
	}
	return overlay, problems
}

// These match the variables that Kubernetes sets in every container for a Service
// whose name begins with pullgate, such as pullgate-mirror. The prefix is left out.
// PULLGATE_MIRROR_PORT holds a URL there; with a number it is a mistaken setting.
var (
	kubernetes = regexp.MustCompile(`^(?:.*_)?(?:` +
		`SERVICE_HOST|SERVICE_PORT(?:_.+)?|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_.+)?)$`)
	kubernetesPort  = regexp.MustCompile(`^(?:.*_)?PORT$`)
	kubernetesValue = regexp.MustCompile(`^(?:tcp|udp|sctp)://`)
)

// isForeign reports whether a variable, whose name is given without its prefix, is
// not meant as a setting.
func isForeign(name, value string) bool {
	return kubernetes.MatchString(name) ||
		kubernetesPort.MatchString(name) && kubernetesValue.MatchString(value) ||
		slices.Contains(testVariables, name)
}
