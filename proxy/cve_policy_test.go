package proxy_test

import (
	"crypto/x509"
	"fmt"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/policy"
)

// policiesDecide changes one field of a policy at a time: each flips a verdict
// about the same image, which is signed by the rig's key with env=prod.
func policiesDecide(t *testing.T, r *rig) {
	image := r.reg.PushImage("prod/app", "v1")
	r.reg.Sign("prod/app", image.Digest, r.key, "env", "prod")
	other := r.reg.PushImage("prod/app", "v2")
	der, err := x509.MarshalPKIXPublicKey(&newKey(t).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	stranger := fmt.Sprintf("%q", "-----BEGIN PUBLIC KEY-----\n"+base64Of(der)+"\n-----END PUBLIC KEY-----\n")
	stranger = strings.ReplaceAll(stranger, "KEY", `K\x45Y`) // KEY stands for the rig's
	const all = `images: ["reg.example/prod/**"]`
	d, e := image.Digest.String(), other.Digest.String()
	for _, c := range []struct {
		field    string
		policies string
		signed   int // the status of the signed image
		unsigned int // of the other
		mode     policy.Mode
	}{
		{
			"as it should be",
			`[{name: a, ` + all + `, authorities: [{key: KEY}], annotations: {env: prod}}]`,
			200,
			403,
			policy.Enforce,
		},
		{"key", `[{name: a, ` + all + `, authorities: [{key: ` + stranger + `}]}]`, 403, 403, policy.Enforce},
		{"keys", `[{name: a, ` + all + `, authorities: [{keys: [` + stranger + `, KEY]}]}]`, 200, 403, policy.Enforce},
		{
			"annotations, value",
			`[{name: a, ` + all + `, authorities: [{key: KEY}], annotations: {env: Prod}}]`,
			403,
			403,
			policy.Enforce,
		},
		{
			"annotations, one more",
			`[{name: a, ` + all + `, authorities: [{key: KEY}], annotations: {env: prod, team: x}}]`,
			403,
			403,
			policy.Enforce,
		},
		{
			"images",
			`[{name: a, images: ["reg.example/prod/other"], authorities: [{key: KEY}]}]`,
			403,
			403,
			policy.Enforce,
		},
		{
			"images are anchored",
			`[{name: a, images: ["reg.example/prod/ap", "reg.example/prod", "xreg.example/prod/app", ` +
				`"reg.example/prod/app/*"], static: allow}]`,
			403,
			403,
			policy.Enforce,
		},
		{"digests", `[{name: a, digests: ["` + d + `"], authorities: [{key: KEY}]}]`, 200, 403, policy.Enforce},
		{
			"digests, of another",
			`[{name: a, digests: ["` + e + `"], authorities: [{key: KEY}]}]`,
			403,
			403,
			policy.Enforce,
		},
		{
			"digests and images must both match",
			`[{name: a, images: ["reg.example/open/**"], digests: ["` + d + `"], static: allow}]`,
			403,
			403,
			policy.Enforce,
		},
		{
			"static: allow of one digest",
			`[{name: a, digests: ["` + e + `"], static: allow}, {name: b, ` + all + `, authorities: [{key: KEY}]}]`,
			200,
			200,
			policy.Enforce,
		},
		{
			"static: deny of one digest",
			`[{name: a, digests: ["` + d + `"], static: deny}, {name: b, ` + all + `, static: allow}]`,
			403,
			200,
			policy.Enforce,
		},
		{
			"two exemptions, the first says no",
			`[{name: a, ` + all + `, static: deny}, {name: b, digests: ["` + d + `"], static: allow}]`,
			403,
			403,
			policy.Enforce,
		},
		{
			"an exemption of another repository",
			`[{name: a, images: ["reg.example/prod/other"], static: allow}, {name: b, images: ` +
				`["reg.example/*/app"], authorities: [{key: ` + stranger + `}]}]`,
			403,
			403,
			policy.Enforce,
		},
		{
			"expires, past",
			`[{name: a, digests: ["` + d + `"], static: allow, expires: 2020-01-01}]`,
			403,
			403,
			policy.Enforce,
		},
		{
			"expires, ahead",
			`[{name: a, digests: ["` + d + `"], static: allow, expires: 2199-01-01}]`,
			200,
			403,
			policy.Enforce,
		},
		{
			"an expired exemption lets no later policy decide",
			`[{name: a, digests: ["` + d + `"], static: allow, expires: 2020-01-01}, {name: b, ` +
				all + `, static: allow}]`,
			403,
			200,
			policy.Enforce,
		},
		{
			"mode: warn",
			`[{name: a, ` + all + `, mode: warn, authorities: [{key: ` + stranger + `}]}]`,
			200,
			200,
			policy.Enforce,
		},
		{
			"mode: warn, expired",
			`[{name: a, ` + all + `, mode: warn, expires: 2020-01-01, authorities: [{key: ` + stranger + `}]}]`,
			403,
			403,
			policy.Enforce,
		},
		{
			"the gate's mode: warn",
			`[{name: a, ` + all + `, authorities: [{key: ` + stranger + `}]}]`,
			200,
			200,
			policy.Warn,
		},
		{"the gate's mode: warn and static: deny", `[{name: a, ` + all + `, static: deny}]`, 403, 403, policy.Warn},
		{
			"signatureRepository",
			`[{name: a, ` + all + `, signatureRepository: reg.example/open/signatures, authorities: [{key: KEY}]}]`,
			403,
			403,
			policy.Enforce,
		},
	} {
		r.reload(withPolicies(c.policies), withMode(c.mode))
		for tag, want := range map[string]int{"v1": c.signed, "v2": c.unsigned} {
			if g := r.get(manifests("prod/app", tag)); g.status != want {
				t.Errorf("%s: %s: %d, want %d: %.300s", c.field, tag, g.status, want, g.body)
			}
		}
	}
	// children: own is about parts, which must not get in by their index then.
	index := r.reg.PushIndex("prod/app", "all", other.Digest)
	r.reg.Sign("prod/app", index, r.key)
	for children, want := range map[string]int{"index": 200, "own": 403} {
		ofIndex := withPolicies(`[{name: a, ` + all + `, children: ` + children + `, authorities: [{key: KEY}]}]`)
		r.reload(ofIndex, withMode(policy.Enforce))
		if g := r.get(manifests("prod/app", "all")); g.status != 200 {
			t.Errorf("the index under children: %s: %d", children, g.status)
		}
		if g := r.get(manifests("prod/app", other.Digest)); g.status != want {
			t.Errorf("its child under children: %s: %d, want %d", children, g.status, want)
		}
	}
}
