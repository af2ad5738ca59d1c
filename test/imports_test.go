// Package test holds what is true of the project as a whole.
package test

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/pullgate/pullgate/"

// rooms may import only what stands below them: cmd → proxy → verify → policy.
// At the bottom are verify/oci, bytes and digests, policy/strictyaml, values of
// files, and verify/reason, words; they import nothing of ours.
var rooms = map[string][]string{
	"verify/oci":             {},
	"policy/foreign":         {},
	"policy/strictyaml":      {},
	"policy":                 {"policy/foreign", "policy/strictyaml", "verify/oci"},
	"verify/sigs":            {"policy", "verify/oci", "verify/reason"},
	"verify/facts":           {"policy", "verify/oci"},
	"verify/facts/factstest": {"policy", "verify/facts", "verify/oci"},
	"verify/facts/postgres":  {"policy", "verify/facts", "verify/oci"},
	"verify/facts/replicas":  {"policy", "verify/facts", "verify/facts/postgres", "verify/oci"},
	"verify": {
		"policy",
		"verify/facts",
		"verify/judge",
		"verify/oci",
		"verify/reason",
		"verify/sigs",
	},
	"verify/trust":               {"policy", "verify/oci", "verify/sigs"},
	"proxy/upstream":             {"policy", "proxy/upstream/credentials", "verify/oci"},
	"proxy":                      {"policy", "proxy/clients", "proxy/upstream", "verify", "verify/oci"},
	"proxy/clients":              {"policy", "verify/oci"},
	"proxy/intercept":            {"policy"},
	"proxy/upstream/credentials": {"policy"},
	"verify/reason":              {},
	"verify/judge":               {"policy", "verify/oci", "verify/reason", "verify/sigs"},
	"cmd/pullgate/exit":          {},
	"cmd/pullgate/version":       {},
	"cmd/pullgate/show":          {"policy"},
	"cmd/pullgate/imagename":     {"cmd/pullgate/show", "policy"},
	"cmd/pullgate/telemetry":     {"cmd/pullgate/version"},
	"cmd/pullgate/imports":       {"policy", "policy/foreign", "policy/strictyaml"},
	"cmd/pullgate/config":        {"cmd/pullgate/imagename", "policy", "policy/strictyaml"},
	"cmd/pullgate/lint":          {"cmd/pullgate/config", "policy"},
	"cmd/pullgate/recording":     {"policy", "verify", "verify/oci"},
	"cmd/pullgate/decisions": {
		"cmd/pullgate/imagename",
		"cmd/pullgate/show",
		"cmd/pullgate/telemetry",
		"policy",
		"proxy",
		"verify",
		"verify/reason",
	},
	"cmd/pullgate/replay": {
		"cmd/pullgate/decisions",
		"cmd/pullgate/show",
		"policy",
		"verify",
		"verify/oci",
	},
	"cmd/pullgate/signing": {"verify/sigs"},
	"cmd/pullgate/node":    {"cmd/pullgate/imagename", "policy"},
	"cmd/pullgate/server": {
		"cmd/pullgate/config",
		"cmd/pullgate/decisions",
		"cmd/pullgate/telemetry",
		"cmd/pullgate/version",
		"policy",
		"proxy",
		"proxy/clients",
		"proxy/intercept",
		"proxy/upstream",
		"proxy/upstream/credentials",
		"verify",
		"verify/facts",
		"verify/facts/postgres",
		"verify/facts/replicas",
		"verify/sigs",
		"verify/trust",
	},
	"cmd/pullgate/demo":    {"cmd/pullgate/server", "cmd/pullgate/signing", "cmd/pullgate/telemetry"},
	"cmd/pullgate/verdict": {"cmd/pullgate/server", "policy", "verify"},
	"cmd/pullgate/cases": {
		"cmd/pullgate/exit",
		"cmd/pullgate/imagename",
		"cmd/pullgate/recording",
		"cmd/pullgate/server",
		"cmd/pullgate/show",
		"cmd/pullgate/verdict",
		"policy",
		"verify",
	},
	"cmd/pullgate/warm": {
		"cmd/pullgate/config",
		"cmd/pullgate/imagename",
		"cmd/pullgate/server",
		"policy",
		"verify",
		"verify/oci",
	},
	"cmd/pullgate": {
		"cmd/pullgate/cases",
		"cmd/pullgate/config",
		"cmd/pullgate/decisions",
		"cmd/pullgate/demo",
		"cmd/pullgate/exit",
		"cmd/pullgate/imagename",
		"cmd/pullgate/imports",
		"cmd/pullgate/lint",
		"cmd/pullgate/node",
		"cmd/pullgate/recording",
		"cmd/pullgate/replay",
		"cmd/pullgate/server",
		"cmd/pullgate/show",
		"cmd/pullgate/signing",
		"cmd/pullgate/telemetry",
		"cmd/pullgate/verdict",
		"cmd/pullgate/version",
		"cmd/pullgate/warm",
		"policy",
		"proxy/intercept",
		"verify",
	},
}

// pure is what policy must do without: it is a decision, not a program.
var pure = []string{
	"net/http",
	"github.com/sigstore/",
	"go.opentelemetry.io/",
	"github.com/google/go-containerregistry",
}

func TestImportsGoOneWay(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		room := strings.TrimPrefix(fields[0], module)
		if strings.HasPrefix(room, "test") {
			continue
		}
		allowed, known := rooms[room]
		if !known {
			t.Errorf("%s is no room this test knows: say what it may import", room)
			continue
		}
		seen++
		for _, imported := range fields[1:] {
			if room == "policy" || strings.HasPrefix(room, "policy/") {
				for _, p := range pure {
					if strings.HasPrefix(imported, p) {
						t.Errorf("%s imports %s", room, imported)
					}
				}
			}
			if target, ours := strings.CutPrefix(imported, module); ours && !contains(allowed, target) {
				t.Errorf("%s imports %s", room, target)
			}
		}
	}
	if seen != len(rooms) {
		t.Errorf("%d rooms of %d were looked at", seen, len(rooms))
	}
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// testOnly are modules for the tests; nothing of them may be in the program.
var testOnly = []string{"github.com/Shopify/toxiproxy", "github.com/rs/zerolog", "gopkg.in/tomb"}

func TestProgramHasNoTestModules(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", module+"cmd/pullgate").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), module+"proxy\n") {
		t.Fatalf("this is no list of what the program is made of: %.200s", out)
	}
	for line := range strings.Lines(string(out)) {
		for _, m := range testOnly {
			if strings.HasPrefix(line, m) {
				t.Errorf("the program contains %s", line)
			}
		}
	}
}

// TestNoSigningFromTheGate: what decides about images can make no signature. No way,
// however long, leads from it to the room that can.
func TestNoSigningFromTheGate(t *testing.T) {
	for _, room := range []string{"cmd/pullgate/server", "proxy", "verify", "verify/sigs", "verify/trust"} {
		t.Run(strings.ReplaceAll(room, "/", " "), func(t *testing.T) {
			out, err := exec.Command("go", "list", "-deps", module+room).Output()
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(out), module+"policy\n") {
				t.Fatalf("this is no list of what the room reaches: %.200s", out)
			}
			if strings.Contains(string(out), module+"cmd/pullgate/signing\n") {
				t.Errorf("%s reaches the room that signs", room)
			}
		})
	}
}
