package server

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullgate/pullgate/cmd/pullgate/telemetry"
)

const (
	policyWarns  = "policy is in warn mode: what it refuses is admitted"
	gateWarns    = "the whole gate is in warn mode: nothing but `static: deny` is refused"
	defaultWarns = "images that no policy matches are admitted"
)

// What is not enforced is said at once and every minute: what is in force at
// that moment, not what was at the start, and no warn that has expired.
func TestReminders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, key := publicKey(t)
		in := func(config string) *Loaded {
			dir := t.TempDir()
			writeIn(t, dir, "key.pub", key)
			l, problems := Load(
				writeIn(t, dir, "pullgate.yaml", "upstreams: [{host: demo.example}]\n"+config),
				nil,
				telemetry.None(),
			)
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			return l
		}
		policies := fmt.Sprintf(`policies:
- {name: strict, images: ["demo.example/strict/**"], authorities: [{key: key.pub}]}
- {name: lax, images: ["demo.example/lax/**"], mode: warn, authorities: [{key: key.pub}]}
- {name: today, images: ["demo.example/**"], mode: warn, expires: %s, authorities: [{key: key.pub}]}
`, time.Now().UTC().Format(time.DateOnly)) // a bubble's clock starts at midnight
		var log lines
		r := &reloader{log: slog.New(slog.NewTextHandler(&log, nil))}
		r.inForce.Store(in(policies))
		go func() { _ = r.remind(t.Context()) }()

		var want []string
		said := func(when string, more ...string) {
			t.Helper()
			synctest.Wait()
			want = append(want, more...)
			if got := log.warnings(); !slices.Equal(got, want) {
				t.Fatalf("%s the log has these warnings:\n%q\nwant\n%q", when, got, want)
			}
		}
		both := []string{policyWarns + " lax", policyWarns + " today"}
		said("at the start", both...)
		time.Sleep(time.Minute - time.Nanosecond)
		said("just before a minute has passed")
		for range 3 {
			time.Sleep(time.Minute)
			said("a minute later", both...)
		}
		r.inForce.Store(in("mode: warn\ndefaultAction: allow\n" + policies))
		time.Sleep(time.Minute)
		said("with the whole gate in warn mode", append(slices.Clone(both), gateWarns, defaultWarns)...)
		r.inForce.Store(in(policies[:strings.Index(policies, "- {name: lax")]))
		time.Sleep(24 * time.Hour)
		said("with everything enforced")
		r.inForce.Store(in(policies))
		time.Sleep(2 * time.Minute)
		said("when one warn has expired", both[0], both[0])
	})
}
