package sigs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/test/fixtures"
)

func policyKey(t testing.TB, public crypto.PublicKey, source string) policy.Key {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	id := sha256.Sum256(der)
	return policy.Key{Public: public, Source: source, ID: hex.EncodeToString(id[:])}
}

func authority(t testing.TB, list ...policy.Key) *Authority {
	t.Helper()
	k, err := NewAuthority(policy.Authority{
		Name:   "keys",
		Keys:   list,
		Accept: []string{policy.SignaturePredicate},
	}, nil, Trust{})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// fixtureKey reads a committed public key.
func fixtureKey(t testing.TB, set *fixtures.Set, file string) policy.Key {
	t.Helper()
	text, err := set.Key(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return policyKey(t, public, file)
}

// candidates finds what a search offers as an image's signatures: the layers of
// the .sig tag and of the referrers.
func candidates(t testing.TB, set *fixtures.Set, repository string, image digest.Digest) []Candidate {
	t.Helper()
	var list []Candidate
	read := func(source string, m *fixtures.Manifest) {
		for _, l := range m.Layers {
			c := Candidate{Source: source, Payload: set.Blob(repository, l.Digest), Annotations: l.Annotations}
			switch {
			case l.MediaType == MediaTypeSimpleSigning:
				c.Kind = Legacy
			case IsBundle(l.MediaType):
				c.Kind = Bundle
			default:
				continue
			}
			list = append(list, c)
		}
	}
	if m := set.Manifest(repository, strings.Replace(image.String(), ":", "-", 1)+".sig"); m != nil {
		read(".sig", m)
	}
	for _, d := range set.Referrers(repository, image) {
		read("referrer", set.Manifest(repository, d.Digest.String()))
	}
	return list
}

// imageOf is the digest a fixture's tag names.
func imageOf(t testing.TB, set *fixtures.Set, f fixtures.Fixture) digest.Digest {
	t.Helper()
	m := set.Manifest(f.Repository, f.Tag)
	if m == nil {
		t.Fatalf("no %s:%s", f.Repository, f.Tag)
	}
	return m.Descriptor.Digest
}

// genuine is the one signature of a fixture with just one, and its image.
func genuine(t testing.TB, set *fixtures.Set, repository string) (Candidate, digest.Digest) {
	t.Helper()
	image := imageOf(t, set, fixtures.Fixture{Repository: repository, Tag: "v1"})
	list := candidates(t, set, repository, image)
	if len(list) != 1 {
		t.Fatalf("%s has %d signatures", repository, len(list))
	}
	return list[0], image
}

// denied checks that a candidate does not count, for a reason that says what
// is wrong, on one line that is fit to print.
func denied(t *testing.T, k *Authority, c Candidate, image digest.Digest, want string) {
	t.Helper()
	defer func() { // so that the other cases still run
		if p := recover(); p != nil {
			t.Errorf("panic: %v", p)
		}
	}()
	who, err := check(k, c, image)
	if err == nil {
		t.Fatalf("allowed as %+v, want %q", who, want)
	}
	if who.KeyID != "" || who.KeySource != "" || who.Annotations != nil {
		t.Errorf("a signer beside the refusal: %+v", who)
	}
	reason := err.Error()
	if !strings.Contains(reason, want) {
		t.Errorf("reason %q, want %q", reason, want)
	}
	if len(reason) > 500 || strings.ContainsFunc(reason, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("reason is too long or not printable: %q", reason)
	}
}

func allowed(t *testing.T, k *Authority, c Candidate, image digest.Digest) Signer {
	t.Helper()
	who, err := check(k, c, image)
	if err != nil {
		t.Fatalf("denied: %v", err)
	}
	return who
}

func TestFixtures(t *testing.T) {
	t.Parallel()
	set := fixtures.Load(t)
	for _, f := range set.Fixtures {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			var list []policy.Key
			for _, file := range f.Keys {
				list = append(list, fixtureKey(t, set, file))
			}
			k := authority(t, list...)
			image := imageOf(t, set, f)
			var counting []Signer
			for _, c := range candidates(t, set, f.Repository, image) {
				if who, err := check(k, c, image); err == nil {
					counting = append(counting, who)
				}
			}
			if f.Verdict == fixtures.Denied {
				if len(counting) > 0 {
					t.Errorf("%+v count, want none: %s", counting, f.Why)
				}
				return
			}
			if len(counting) != 1 {
				t.Fatalf("%d signatures count, want 1: %s", len(counting), f.Why)
			}
			who := counting[0]
			if !slices.ContainsFunc(
				list,
				func(p policy.Key) bool { return p.ID == who.KeyID && p.Source == who.KeySource },
			) {
				t.Errorf("made by %s %s, not by one of %v", who.KeySource, who.KeyID, f.Keys)
			}
			if !maps.Equal(who.Annotations, f.Annotations) {
				t.Errorf("annotations %v, want %v", who.Annotations, f.Annotations)
			}
		})
	}
}

func TestFixturesUnderOtherKeys(t *testing.T) {
	t.Parallel()
	set := fixtures.Load(t)
	strangers := map[string]*Authority{}
	for name, key := range newKeys(t) {
		strangers[name] = authority(t, policyKey(t, key.Public(), "stranger"))
	}
	for _, f := range set.Fixtures {
		image := imageOf(t, set, f)
		for _, c := range candidates(t, set, f.Repository, image) {
			for name, k := range strangers {
				if _, err := check(k, c, image); err == nil {
					t.Errorf("%s counts under an unknown %s key", f.Name, name)
				}
			}
		}
	}
}

func TestFixturesOnOtherImages(t *testing.T) {
	t.Parallel()
	set := fixtures.Load(t)
	for i, f := range set.Fixtures {
		if f.Verdict != fixtures.Allowed {
			continue
		}
		k := authority(t, fixtureKey(t, set, f.Keys[0]))
		image := imageOf(t, set, f)
		foreign := imageOf(t, set, set.Fixtures[(i+7)%len(set.Fixtures)])
		if foreign == image {
			t.Fatalf("%s: choose another image", f.Name)
		}
		flipped := []byte(image.Encoded())
		flipped[63] ^= 1
		for _, other := range []digest.Digest{
			foreign,
			digest.NewDigestFromEncoded(digest.SHA256, string(flipped)),
			digest.SHA512.FromString("x"),
			digest.NewDigestFromEncoded(digest.SHA512, image.Encoded()+image.Encoded()),
		} {
			for _, c := range candidates(t, set, f.Repository, image) {
				if _, err := check(k, c, other); err == nil {
					t.Errorf("%s counts for %s", f.Name, other)
				}
			}
		}
	}
}

// newKeys makes a key of every kind; the RSA key is of the smallest size a
// policy may name.
func newKeys(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	list := map[string]crypto.Signer{}
	for name, curve := range map[string]elliptic.Curve{
		"P-256": elliptic.P256(),
		"P-384": elliptic.P384(),
		"P-521": elliptic.P521(),
	} {
		list[name] = newECDSA(t, curve)
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, e, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	list["RSA"], list["Ed25519"] = r, e
	return list
}

func newECDSA(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sign signs as cosign does with SHA-256, and Ed25519 purely.
func sign(t testing.TB, key crypto.Signer, message []byte) []byte {
	t.Helper()
	sum := sha256.Sum256(message)
	in, opts := sum[:], crypto.SignerOpts(crypto.SHA256)
	if _, ok := key.(ed25519.PrivateKey); ok {
		in, opts = message, crypto.Hash(0)
	}
	sig, err := key.Sign(rand.Reader, in, opts)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// legacy is a simple-signing candidate over payload.
func legacy(t testing.TB, key crypto.Signer, payload string) Candidate {
	t.Helper()
	return Candidate{
		Kind:    Legacy,
		Payload: []byte(payload),
		Annotations: map[string]string{
			AnnotationSignature: base64.StdEncoding.EncodeToString(sign(t, key, []byte(payload))),
		},
	}
}

func TestKeyKinds(t *testing.T) {
	t.Parallel()
	image := digest.FromString("an image")
	for name, key := range newKeys(t) {
		k := authority(t, policyKey(t, key.Public(), name))
		for format, c := range map[string]Candidate{
			"legacy": legacy(t, key, payload(image.String())),
			"bundle": bundleOf(t, key, statementOf(image.Encoded())),
		} {
			if who := allowed(t, k, c, image); who.KeySource != name || who.KeyID == "" {
				t.Errorf("%s %s: %+v", format, name, who)
			}
		}
	}
}

func TestSignerKey(t *testing.T) {
	t.Parallel()
	image := digest.FromString("an image")
	var list []policy.Key
	keys := newKeys(t)
	for name, key := range keys {
		list = append(list, policyKey(t, key.Public(), name))
	}
	k := authority(t, list...)
	for name, key := range keys {
		for format, c := range map[string]Candidate{
			"legacy": legacy(t, key, payload(image.String())),
			"bundle": bundleOf(t, key, statementOf(image.Encoded())),
		} {
			if who := allowed(t, k, c, image); who.KeySource != name || who.KeyID != policyKey(t, key.Public(), "").ID {
				t.Errorf("%s by %s: signer %+v", format, name, who)
			}
		}
	}
}

func TestUnusableKeys(t *testing.T) {
	t.Parallel()
	good := policyKey(t, newECDSA(t, elliptic.P256()).Public(), "good.pub")
	for name, list := range map[string][]policy.Key{
		"none":       nil,
		"no public":  {{Source: "x"}},
		"not a key":  {good, {Public: "a string", Source: "x"}},
		"a private":  {{Public: newECDSA(t, elliptic.P256()), Source: "x"}},
		"short seed": {{Public: []byte("x"), Source: "x"}},
	} {
		if k, err := NewAuthority(policy.Authority{
			Name:   "keys",
			Keys:   list,
			Accept: []string{policy.SignaturePredicate},
		}, nil, Trust{}); err == nil {
			t.Errorf("%s: loaded as %+v", name, k)
		}
	}
}

func TestZeroAuthority(t *testing.T) {
	t.Parallel()
	key := newECDSA(t, elliptic.P256())
	image := digest.FromString("an image")
	denied(t, &Authority{}, legacy(t, key, payload(image.String())), image, "accepts only attestations")
	k := authority(t, policyKey(t, key.Public(), "k"))
	for _, kind := range []Kind{0, -1, 4} {
		c := legacy(t, key, payload(image.String()))
		c.Kind = kind
		denied(t, k, c, image, "no known format")
	}
	denied(t, k, Candidate{}, image, "no known format")
}

func TestKeyConcurrency(t *testing.T) {
	t.Parallel()
	set := fixtures.Load(t)
	k := authority(t, fixtureKey(t, set, "keys/other.pub"), fixtureKey(t, set, "keys/p256.pub"))
	one, oneImage := genuine(t, set, "acme/v2-p256")
	two, twoImage := genuine(t, set, "acme/v3-p256")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 10 {
				if _, err := check(k, one, oneImage); err != nil {
					t.Error(err)
				}
				if _, err := check(k, two, twoImage); err != nil {
					t.Error(err)
				}
				if _, err := check(k, two, oneImage); err == nil {
					t.Error("counts for another image")
				}
			}
		})
	}
	all.Wait()
}

func BenchmarkVerify(b *testing.B) {
	set := fixtures.Load(b)
	k := authority(b, fixtureKey(b, set, "keys/p256.pub"))
	for name, repository := range map[string]string{"legacy P-256": "acme/v2-p256", "bundle P-256": "acme/v3-p256"} {
		b.Run(name, func(b *testing.B) {
			c, image := genuine(b, set, repository)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := check(k, c, image); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// check reads and verifies one candidate, as the gate does.
func check(a *Authority, c Candidate, image digest.Digest) (Signer, error) {
	r, err := Read(c, image)
	if err != nil {
		return Signer{}, err
	}
	return a.Verify(r)
}
