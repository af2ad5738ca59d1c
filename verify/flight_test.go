package verify_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/oci"
)

const everyHost = `[{name: p, images: ["**"], authorities: [{key: a.pub}]}]`

// served is a gate's configuration with one registry for every host.
func (s *signers) served(text string, registry verify.Registry) verify.Config {
	s.t.Helper()
	config := s.gate(text).Config()
	config.Registry = func(string) (verify.Registry, bool) { return registry, true }
	return config
}

// slow is a registry whose list of referrers comes when the test says so. Every
// verdict asks for it once.
type slow struct {
	verify.Registry
	asked chan struct{} // one for each list that is waited for
	come  chan struct{} // closed: the lists come
}

func (r slow) Referrers(
	ctx context.Context, repo policy.Repository, d digest.Digest, most int64,
) (oci.Referrers, error) {
	r.asked <- struct{}{}
	select {
	case <-r.come:
		return r.Registry.Referrers(ctx, repo, d, most)
	case <-ctx.Done():
		return oci.Referrers{}, ctx.Err()
	}
}

// begun checks that exactly n more verdicts begin.
func (r slow) begun(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		select {
		case <-r.asked:
		case <-time.After(10 * time.Second):
			t.Fatalf("%d verdicts have begun, want %d", i, n)
		}
	}
	select {
	case <-r.asked:
		t.Errorf("more than %d verdicts have begun", n)
	case <-time.After(100 * time.Millisecond):
	}
}

// TestVerdictsInFlight: limits.verdictsInFlight bounds the verdicts that are
// being made, half of it those of one upstream. The others wait for their turn.
func TestVerdictsInFlight(t *testing.T) {
	t.Parallel()

	run := func(t *testing.T, check func(registry slow, ask func(host string))) {
		s := newSigners(t)
		registry := slow{s.up, make(chan struct{}, 100), make(chan struct{})}
		config := s.served(everyHost, registry)
		config.Limits.VerdictsInFlight = 4
		gate := s.configured(config)

		var all sync.WaitGroup
		check(registry, func(host string) {
			image := s.image()
			all.Go(func() {
				repo := policy.Repository{Host: host, Path: signersRepo}
				_, v, err := gate.Manifest(t.Context(), repo.At(image), policy.Client{})
				if err != nil || v.Outcome != verify.Denied {
					t.Errorf("after its turn: %s, %v", v.Outcome, err)
				}
			})
		})
		close(registry.come)
		all.Wait()
	}

	t.Run("one upstream", func(t *testing.T) {
		t.Parallel()
		run(t, func(registry slow, ask func(host string)) {
			for range 6 {
				ask("stalls.example")
			}
			registry.begun(t, 2)
			ask("other.example") // finds room
			registry.begun(t, 1)
		})
	})

	t.Run("many upstreams", func(t *testing.T) {
		t.Parallel()
		run(t, func(registry slow, ask func(host string)) {
			for _, host := range []string{"one.example", "two.example", "three.example"} {
				ask(host)
				ask(host)
			}
			registry.begun(t, 4)
		})
	})
}

// TestBusySlots: signatures are verified and manifests parsed in slots, as many
// as there are CPUs. What finds none in time is neither allowed nor denied.
func TestBusySlots(t *testing.T) {
	t.Parallel()
	s := newSigners(t)
	config := s.served(everyHost, s.up)
	gate := s.configured(config)
	good, bad, fresh := s.image(), s.image(), s.image()
	s.reg.Sign(signersRepo, good, s.keys["a"])
	s.reg.Sign(signersRepo, bad, s.keys["b"])
	s.reg.Sign(signersRepo, fresh, s.keys["a"])
	s.remembered(gate, good) // its manifest needs no slot any more
	s.remembered(gate, bad)

	clock := &later{}
	clock.set(config.TTL + time.Second) // the verdicts have to be made again
	config.Now, config.Limits.VerifyTimeout = clock.now, time.Second
	busy := s.configured(config)
	free := busy.Occupy()
	for name, image := range map[string]digest.Digest{
		"a signature that counts":     good,
		"a signature of another's":    bad,
		"a manifest to be parsed yet": fresh,
	} {
		t.Run(name, func(t *testing.T) {
			repo := policy.Repository{Host: "reg.example", Path: signersRepo}
			_, v, err := busy.Manifest(t.Context(), repo.At(image), policy.Client{})
			if !errors.Is(err, context.DeadlineExceeded) || v.Admitted() {
				t.Errorf("without a slot: %s, %v", v.Outcome, err)
			}
		})
	}

	free()
	for image, want := range map[digest.Digest]verify.Outcome{
		good:  verify.Allowed,
		bad:   verify.Denied,
		fresh: verify.Allowed,
	} {
		if v := s.settled(busy, image); v.Outcome != want {
			t.Errorf("with slots: %s: %s", v.Outcome, v.Message())
		}
	}
}

// stuck is a registry that never answers, whatever its context says, until the
// test lets go.
type stuck struct {
	verify.Registry
	asked chan struct{} // one for each question that hangs
	hangs func(what string) bool
	end   chan struct{} // closed: all that hang end
}

func (r stuck) Manifest(ctx context.Context, image policy.Image, limit int64) (oci.Manifest, error) {
	r.wait("manifests")
	return r.Registry.Manifest(ctx, image, limit)
}

func (r stuck) Referrers(
	ctx context.Context, repo policy.Repository, d digest.Digest, most int64,
) (oci.Referrers, error) {
	r.wait("referrers")
	return r.Registry.Referrers(ctx, repo, d, most)
}

func (r stuck) wait(what string) {
	if r.hangs(what) {
		r.asked <- struct{}{}
		<-r.end
	}
}

// TestHangingFlight: a look-up that ignores its deadline is given up. When the
// registry answers again, the same image is asked for anew, however many hang.
func TestHangingFlight(t *testing.T) {
	t.Parallel()

	for _, what := range []string{"manifests", "referrers"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := newSigners(t)
			var hangs atomic.Bool
			registry := stuck{
				Registry: s.up,
				asked:    make(chan struct{}, 1000),
				hangs:    func(asked string) bool { return asked == what && hangs.Load() },
				end:      make(chan struct{}),
			}
			defer close(registry.end)
			config := s.served(everyHost, registry)
			config.Limits.VerifyTimeout, config.Limits.VerdictsInFlight = time.Second, 4
			gate := s.configured(config)
			repo := policy.Repository{Host: "reg.example", Path: signersRepo}
			ask := func(image digest.Digest) (verify.Verdict, error) {
				_, v, err := gate.Manifest(t.Context(), repo.At(image), policy.Client{})
				return v, err
			}

			images := make([]digest.Digest, 6) // more than a host's share of verdicts
			for i := range images {
				images[i] = s.image()
				s.reg.Sign(signersRepo, images[i], s.keys["a"])
			}
			hangs.Store(true)
			var all sync.WaitGroup
			for _, image := range images {
				all.Go(func() {
					if v, err := ask(image); !errors.Is(err, context.DeadlineExceeded) || v.Admitted() {
						t.Errorf("while it hangs: %s, %v", v.Outcome, err)
					}
				})
			}
			all.Wait()
			time.Sleep(config.Limits.VerifyTimeout / 4) // until they are given up
			hangs.Store(false)

			for _, image := range images {
				if v, err := ask(image); err != nil || v.Outcome != verify.Allowed {
					t.Errorf("when it answers again: %s, %v", v.Outcome, err)
				}
			}
		})
	}

	t.Run("bound", func(t *testing.T) { // what hangs is bounded
		t.Parallel()
		s := newSigners(t)
		registry := stuck{s.up, make(chan struct{}, 1000), func(string) bool { return true }, make(chan struct{})}
		defer close(registry.end)
		config := s.served(everyHost, registry)
		config.Limits.VerifyTimeout, config.Limits.VerdictsInFlight = 200*time.Millisecond, 1
		gate := s.configured(config)
		repo := policy.Repository{Host: "reg.example", Path: signersRepo}

		for range 3 {
			var all sync.WaitGroup
			for range 20 {
				image := s.image()
				all.Go(func() { _, _, _ = gate.Manifest(t.Context(), repo.At(image), policy.Client{}) })
			}
			all.Wait()
			time.Sleep(100 * time.Millisecond)
		}
		if n := len(registry.asked); n > 16+20 {
			t.Errorf("%d look-ups hang", n)
		}
	})
}
