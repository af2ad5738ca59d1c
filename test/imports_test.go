// Package test holds what is true of the project as a whole.
package test

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/pullgate/pullgate/"

// rooms may import only what stands below them: cmd → proxy → verify → policy.
// At the bottom are verify/oci, bytes and digests, and verify/reason, words; they
// import nothing of ours.
var rooms = map[string][]string{
	"verify/oci":             {},
	"policy":                 {"verify/oci"},
	"verify/sigs":            {"policy", "verify/oci", "verify/reason"},
	"verify/facts":           {"policy", "verify/oci"},
	"verify/facts/factstest": {"policy", "verify/facts", "verify/oci"},
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
	"proxy":                      {"policy", "proxy/upstream", "verify", "verify/oci"},
	"cmd/pullgate/exit":          {},
	"cmd/pullgate/version":       {},
	"cmd/pullgate/show":          {"policy"},
	"cmd/pullgate/imagename":     {"cmd/pullgate/show", "policy"},
	"cmd/pullgate/telemetry":     {"cmd/pullgate/version"},
	"cmd/pullgate/imports":       {"policy"},
	"proxy/upstream/credentials": {"policy"},
	"verify/reason":              {},
	"verify/judge":               {"policy", "verify/oci", "verify/reason", "verify/sigs"},
	"cmd/pullgate": {
		"policy",
		"cmd/pullgate/exit",
		"cmd/pullgate/version",
		"cmd/pullgate/show",
		"cmd/pullgate/imagename",
		"cmd/pullgate/telemetry",
		"cmd/pullgate/imports",
		"verify",
		"verify/facts",
		"verify/oci",
		"verify/reason",
		"verify/sigs",
		"verify/trust",
		"proxy",
		"proxy/upstream",
		"proxy/upstream/credentials",
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
			if room == "policy" {
				for _, p := range pure {
					if strings.HasPrefix(imported, p) {
						t.Errorf("policy imports %s", imported)
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
