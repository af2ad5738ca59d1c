package verify_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify"
)

// TestErrorsUnderWarn: mode: warn admits what could not be verified, and no
// other error.
func TestErrorsUnderWarn(t *testing.T) {
	t.Parallel()
	const policies = `[{name: p, images: ["reg.example/**"], mode: warn, authorities: [{key: a.pub}]%s}]`
	for name, test := range map[string]struct {
		also   string // beside the authorities
		leaves bool   // while the gate waits for signatures
		want   error  // nil: any
		warned bool
	}{
		"time is up":       {warned: true},
		"client has left":  {leaves: true, want: context.Canceled},
		"unknown registry": {also: `, signatureRepository: nowhere.example/sigs`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSigners(t)
			image := s.image()
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			config := s.gate(fmt.Sprintf(policies, test.also)).Config()
			config.Limits.VerifyTimeout = 3 * time.Second
			late := lateRegistry{s.up, func(reference string) bool {
				if signature := strings.HasSuffix(reference, ".sig"); signature && test.leaves {
					leave()
				}
				return strings.HasPrefix(reference, "sha256-")
			}}
			config.Registry = func(host string) (verify.Registry, bool) { return late, host == "reg.example" }

			_, v, err := s.configured(config).Manifest(
				ctx,
				policy.Repository{Host: "reg.example", Path: signersRepo}.At(image),
				policy.Client{},
			)

			switch {
			case test.warned && (err != nil || v.Outcome != verify.WarnedUnverified):
				t.Errorf("%s, %v; want a warning", v.Outcome, err)
			case !test.warned && (err == nil || v.Admitted()):
				t.Errorf("%s by %s; want an error", v.Outcome, v.Signer)
			case test.want != nil && !errors.Is(err, test.want):
				t.Errorf("%v; want %v", err, test.want)
			}
		})
	}
}
