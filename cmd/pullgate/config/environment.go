package config

import (
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
		if !ours || isForeign(rest) {
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

// isForeign reports whether a variable, given without its prefix, is not meant
// as a setting: Kubernetes sets such ones for a service called pullgate.
func isForeign(name string) bool {
	return name == "PORT" ||
		strings.HasPrefix(name, "PORT_") ||
		strings.HasPrefix(name, "SERVICE_") ||
		slices.Contains(testVariables, name)
}
