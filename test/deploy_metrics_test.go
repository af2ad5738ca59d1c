package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/cmd/pullgate/node"
)

// alwaysThere are labels that Prometheus itself gives, and those of histograms.
var alwaysThere = map[string]bool{"job": true, "instance": true, "namespace": true, "pod": true, "le": true}

var (
	// metricUse matches a metric in an expression, with its braces if it has some.
	metricUse = regexp.MustCompile(`\b(pullgate_[a-z_]+)(?:\{([^}]*)\})?`)

	labelUse = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)`)

	// grouping matches the labels that an aggregation keeps.
	grouping = regexp.MustCompile(`\bby \(([^)]*)\)`)

	// documentedMetric matches a row of the table in docs/metrics.md: name, kind, labels.
	documentedMetric = regexp.MustCompile("(?m)^\\| `(pullgate_\\w+)` \\| (\\w+) \\| *([^|]*?) *\\|")

	exposedMetric = regexp.MustCompile(`(?m)^(pullgate_\w+)(?:\{(.*)\})? \S+$`)

	word = regexp.MustCompile("`(\\w+)`")
)

// TestDeployedMetrics: dashboards and alerts ask for metrics and labels that the
// program has. docs/metrics.md is held to the gate's own by its tests; doctor's
// are asked of its code.
func TestDeployedMetrics(t *testing.T) {
	known := knownMetrics(t)
	expressions := append(alertExpressions(t), dashboardExpressions(t)...)
	if len(known) < 10 || len(expressions) < 25 {
		t.Fatalf("%d metrics, %d expressions", len(known), len(expressions))
	}

	for _, e := range expressions {
		if problem := unknownName(known, e); problem != "" {
			t.Errorf("%s, in %s", problem, e)
		}
	}

	t.Run("wrong names are found", func(t *testing.T) {
		for _, e := range []string{
			`rate(pullgate_request_total[5m])`,
			`pullgate_requests_total{result="denied"}`,
			`sum by (image) (pullgate_requests_total)`,
			`pullgate_requests_total_bucket`,
			`pullgate_doctor_holds`,
		} {
			if unknownName(known, e) == "" {
				t.Errorf("%s passes", e)
			}
		}
	})
}

// unknownName says what an expression names that no metric has, or nothing.
func unknownName(known map[string]map[string]bool, expression string) string {
	has := map[string]bool{}
	for _, m := range metricUse.FindAllStringSubmatch(expression, -1) {
		labels, ok := known[m[1]]
		if !ok {
			return m[1] + " is no metric of this program"
		}
		for label := range labels {
			has[label] = true
		}
		for _, l := range labelUse.FindAllStringSubmatch(m[2], -1) {
			if !labels[l[1]] && !alwaysThere[l[1]] {
				return m[1] + " has no label " + l[1]
			}
		}
	}

	for _, g := range grouping.FindAllStringSubmatch(expression, -1) {
		for label := range strings.SplitSeq(g[1], ",") {
			if label = strings.TrimSpace(label); !has[label] && !alwaysThere[label] {
				return "none of the metrics has a label " + label
			}
		}
	}
	return ""
}

// knownMetrics are the names that a scrape may find, each with its labels.
func knownMetrics(t *testing.T) map[string]map[string]bool {
	t.Helper()
	known := map[string]map[string]bool{}
	text, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range documentedMetric.FindAllStringSubmatch(string(text), -1) {
		labels := map[string]bool{}
		for _, l := range word.FindAllStringSubmatch(m[3], -1) {
			labels[l[1]] = true
		}
		if m[2] != "histogram" {
			known[m[1]] = labels
			continue
		}
		for _, part := range []string{"_bucket", "_sum", "_count"} {
			known[m[1]+part] = labels
		}
	}

	file := filepath.Join(t.TempDir(), "doctor.prom")
	if err := node.WriteMetrics(file, []node.Finding{{Runtime: "podman", Outcome: node.Held}}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if text, err = os.ReadFile(file); err != nil {
		t.Fatal(err)
	}
	for _, m := range exposedMetric.FindAllStringSubmatch(string(text), -1) {
		known[m[1]] = map[string]bool{}
		for _, l := range labelUse.FindAllStringSubmatch(m[2], -1) {
			known[m[1]][l[1]] = true
		}
	}
	return known
}

// alertFile is deploy/alerts/pullgate.yaml.
type alertFile struct {
	Groups []struct {
		Rules []struct {
			Alert       string            `yaml:"alert"`
			Expr        string            `yaml:"expr"`
			Annotations map[string]string `yaml:"annotations"`
		} `yaml:"rules"`
	} `yaml:"groups"`
}

func readAlerts(t *testing.T) alertFile {
	t.Helper()
	text, err := os.ReadFile("../deploy/alerts/pullgate.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var alerts alertFile
	if err := yaml.Unmarshal(text, &alerts); err != nil {
		t.Fatal(err)
	}
	if len(alerts.Groups) != 1 || len(alerts.Groups[0].Rules) < 10 {
		t.Fatalf("%d groups", len(alerts.Groups))
	}
	return alerts
}

func alertExpressions(t *testing.T) []string {
	t.Helper()
	var found []string
	for _, r := range readAlerts(t).Groups[0].Rules {
		found = append(found, r.Expr)
	}
	return found
}

// dashboardExpressions are the queries of every panel and variable.
func dashboardExpressions(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../deploy/dashboards/pullgate.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
		Templating struct{ List []struct{ Definition string } }
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}

	var found []string
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			found = append(found, target.Expr)
		}
	}
	for _, v := range dashboard.Templating.List {
		found = append(found, v.Definition)
	}
	return found
}

// TestAlertsHaveRunbooks: every alert says what it is about, and links to a section
// of docs/operations.md that exists and names it.
func TestAlertsHaveRunbooks(t *testing.T) {
	const page = "https://github.com/pullgate/pullgate/blob/main/docs/operations.md#"
	operations := readDocuments(t)["../docs/operations.md"]
	sections := 0
	for anchor := range operations.anchors {
		if strings.HasPrefix(anchor, "pullgate") && !strings.Contains(anchor, "-") {
			sections++
		}
	}

	rules := readAlerts(t).Groups[0].Rules
	for _, r := range rules {
		anchor, ours := strings.CutPrefix(r.Annotations["runbook_url"], page)
		if !ours || anchor != strings.ToLower(r.Alert) || !operations.anchors[anchor] {
			t.Errorf("%s: the runbook %q is no section of docs/operations.md", r.Alert, r.Annotations["runbook_url"])
		}
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s says nothing", r.Alert)
		}
	}
	if sections != len(rules) {
		t.Errorf("%d sections for %d alerts", sections, len(rules))
	}
}
