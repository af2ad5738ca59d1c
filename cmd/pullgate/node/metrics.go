package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// WriteMetrics writes findings for the textfile collector of node_exporter: whole
// or not at all.
func WriteMetrics(file string, found []Finding, now time.Time) error {
	var b strings.Builder
	b.WriteString("# HELP pullgate_doctor_held 1 when the runtime's pulls end at the gate, 0 when they get around it " +
		"or cannot be told.\n# TYPE pullgate_doctor_held gauge\n")
	for _, f := range found {
		value := 0
		if f.Outcome == Held {
			value = 1
		}
		outcome := strings.ToLower(strings.ReplaceAll(string(f.Outcome), " ", "_"))
		fmt.Fprintf(&b, "pullgate_doctor_held{runtime=%q,outcome=%q} %d\n", f.Runtime, outcome, value)
	}

	b.WriteString("# HELP pullgate_doctor_run_timestamp_seconds When doctor last ran.\n" +
		"# TYPE pullgate_doctor_run_timestamp_seconds gauge\n")
	fmt.Fprintf(&b, "pullgate_doctor_run_timestamp_seconds %d\n", now.Unix())

	next := filepath.Join(filepath.Dir(file), "."+filepath.Base(file)+".new")
	if err := os.WriteFile(next, []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("write metrics: %w", err)
	}
	return os.Rename(next, file)
}
