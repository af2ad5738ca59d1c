package server

import (
	"context"
	"log/slog"
	"time"

	"github.com/pullgate/pullgate/policy"
)

// remindEvery is short enough that a reader of the log does not miss it.
const remindEvery = time.Minute

// remind says what is not enforced by the configuration in force, at once and
// every minute, until ctx ends.
func (r *reloader) remind(ctx context.Context) error {
	again := time.NewTicker(remindEvery)
	defer again.Stop()

	for {
		r.current().warn(r.log)

		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		}
	}
}

// warn says what is not enforced.
func (l *Loaded) warn(log *slog.Logger) {
	for _, p := range l.Policies.Policies() {
		if warns(p) {
			log.Warn("policy is in warn mode: what it refuses is admitted", "policy", p.Name, "where", p.Where.String())
		}
	}

	if l.Config.GateMode() == policy.Warn {
		log.Warn("the whole gate is in warn mode: nothing but `static: deny` is refused")
	}
	if l.Config.DefaultAction != "deny" {
		log.Warn("images that no policy matches are admitted", "default_action", l.Config.DefaultAction)
	}
}

// warnPolicies counts the policies that refuse nothing.
func (l *Loaded) warnPolicies() int64 {
	n := int64(0)
	for _, p := range l.Policies.Policies() {
		if l.Config.GateMode() == policy.Warn || warns(p) {
			n++
		}
	}
	return n
}

// warns reports whether a policy is in warn mode now.
func warns(p *policy.Policy) bool {
	return p.Mode == policy.Warn && (p.Expires.IsZero() || time.Now().Before(p.Expires))
}
