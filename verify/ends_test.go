package verify_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/hostile"
	"github.com/pullgate/pullgate/verify"
)

// later is a gate's clock. It runs ahead of the machine's by as much as a test
// says.
type later struct{ ahead atomic.Int64 }

func (l *later) now() time.Time { return time.Now().Add(time.Duration(l.ahead.Load())) }

func (l *later) set(ahead time.Duration) { l.ahead.Store(int64(ahead)) }

// configured is a gate of this configuration.
func (s *signers) configured(config verify.Config) *verify.Gate {
	s.t.Helper()
	gate, err := verify.New(config)
	s.check(err)
	return gate
}

// remembered asks about image until memory answers: the cache takes what it is
// given a little later.
func (s *signers) remembered(gate *verify.Gate, image digest.Digest) verify.Verdict {
	s.t.Helper()
	for range 500 {
		if v := s.verdict(gate, image); v.CacheHit {
			return v
		}
		time.Sleep(time.Millisecond)
	}
	s.t.Fatalf("memory never answers for %s", image)
	return verify.Verdict{}
}

// TestVerdictEnds: memory answers until a verdict ends and no longer. The
// registry changes as soon as the verdict is in memory, so the verdict that
// follows is the opposite one.
func TestVerdictEnds(t *testing.T) {
	t.Parallel()

	const byKey = `authorities: [{key: a.pub}]`
	const byCertificate = `authorities: [{certificate: {rootsFile: corp.pem, subject: a@acme.example, time: current}}]`

	signed := func(key string) func(*signers, digest.Digest) {
		return func(s *signers, d digest.Digest) { s.reg.Sign(signersRepo, d, s.keys[key]) }
	}
	certified := func(s *signers, d digest.Digest) { // by a certificate of one hour
		layer := s.certified(d, s.corp, named("a@acme.example"))
		s.reg.PushArtifact(signersRepo, hostile.SignatureTag(d), hostile.Artifact{Layers: []hostile.Layer{layer}})
	}
	nothing := func(*signers, digest.Digest) {}
	withdrawn := func(s *signers, _ digest.Digest) {
		s.reg.On(hostile.Status(http.StatusNotFound).At(hostile.SignatureTags))
	}

	for name, test := range map[string]struct {
		policy string
		ttl    time.Duration
		before func(*signers, digest.Digest)
		after  func(*signers, digest.Digest)
		first  verify.Outcome
		ends   time.Duration
		then   verify.Outcome
	}{
		"an allow": {
			policy: byKey,
			ttl:    time.Hour,
			before: signed("a"),
			after:  withdrawn,
			first:  verify.Allowed,
			ends:   time.Hour,
			then:   verify.Denied,
		},
		"an allow by a certificate": {
			policy: byCertificate,
			ttl:    24 * time.Hour,
			before: certified,
			after:  withdrawn,
			first:  verify.Allowed,
			ends:   time.Hour,
			then:   verify.Denied,
		},
		"a denial": {
			policy: byKey,
			ttl:    time.Hour,
			before: signed("b"),
			after:  signed("a"),
			first:  verify.Denied,
			ends:   time.Minute,
			then:   verify.Allowed,
		},
		"a denial of what has no signature": {
			policy: byKey,
			ttl:    time.Hour,
			before: nothing,
			after:  signed("a"),
			first:  verify.Denied,
			ends:   5 * time.Second,
			then:   verify.Allowed,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, clock := newSigners(t), &later{}
			config := s.gate(policyHead + test.policy + `}]`).Config()
			config.TTL, config.Now = test.ttl, clock.now
			gate, image := s.configured(config), s.image()

			test.before(s, image)
			if v := s.remembered(gate, image); v.Outcome != test.first {
				t.Fatalf("%s: %s", v.Outcome, v.Message())
			}
			test.after(s, image)

			clock.set(test.ends / 5)
			if v := s.verdict(gate, image); !v.CacheHit || v.Outcome != test.first {
				t.Errorf("before its end: %s, from memory: %t", v.Outcome, v.CacheHit)
			}

			clock.set(test.ends + time.Second)
			if v := s.verdict(gate, image); v.CacheHit || v.Outcome != test.then {
				t.Errorf("after its end: %s, from memory: %t", v.Outcome, v.CacheHit)
			}
		})
	}
}

// TestStaleVerdictEnds: an allow by kept signatures lives as short as a denial,
// so that the registry is asked soon after it is back.
func TestStaleVerdictEnds(t *testing.T) {
	t.Parallel()
	s, clock := newSigners(t), &later{}
	config := s.gate(policyHead + `authorities: [{key: a.pub}]}]`).Config()
	config.Now, config.StaleIfError = clock.now, 24*time.Hour
	image := s.image()
	s.reg.Sign(signersRepo, image, s.keys["a"])
	if v := s.verdict(s.configured(config), image); v.Outcome != verify.Allowed {
		t.Fatal(v.Message())
	}

	var err error
	config.Cache, err = verify.NewCache(1000, 1<<20) // of a new process
	s.check(err)
	t.Cleanup(config.Cache.Close)
	gate := s.configured(config)
	away := hostile.Status(http.StatusServiceUnavailable)
	s.reg.On(away)
	if v := s.remembered(gate, image); v.Outcome != verify.Allowed {
		t.Fatalf("by kept signatures: %s", v.Message())
	}

	s.reg.Off(away)
	s.reg.On(hostile.Status(http.StatusNotFound).At(hostile.SignatureTags))
	clock.set(config.DenyTTL + time.Second)
	if v := s.verdict(gate, image); v.Outcome != verify.Denied {
		t.Errorf("the registry is back without the signature: %s, from memory: %t", v.Outcome, v.CacheHit)
	}
}
