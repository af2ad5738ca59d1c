package profiles_test

import (
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/test/profiles"
)

// TestDocument: docs/registries.md has a row for each registry, which says what the
// tests have found.
func TestDocument(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/registries.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, "|"); len(cells) == 7 {
			rows[strings.TrimSpace(cells[1])] = cells[2:6]
		}
	}

	for _, p := range profiles.Table() {
		row := rows[p.Name]
		if row == nil {
			t.Errorf("%s has no row", p.Name)
			continue
		}
		if byTag := strings.Contains(row[2], "referrers tag"); byTag == p.Referrers.Available() {
			t.Errorf("%s: signatures are found by %s", p.Name, row[2])
		}

		said := map[int]bool{}
		a := absences[p.Name]
		outcomes := []outcome{a.missing, a.foreign}
		if !p.AccountsOnly {
			outcomes = append(outcomes, a.missingGuest, a.private)
		}
		for _, o := range outcomes {
			said[o.status] = o.status != 0
		}
		for _, status := range []int{http.StatusForbidden, http.StatusNotFound} {
			if strings.Contains(row[3], strconv.Itoa(status)) != said[status] {
				t.Errorf("%s: what is missing is %s, where the tests find %v", p.Name, row[3], said)
			}
		}
	}
}
