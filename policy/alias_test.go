package policy

import (
	"strings"
	"testing"
)

// Bytes have a name in each algorithm, and a policy that lists one of the names
// decides about the bytes, whichever name was asked for.
func TestSetForEither(t *testing.T) {
	sha256, sha512 := testDigest('1'), "sha512:"+strings.Repeat("2", 128)
	for name, listed := range map[string]string{"sha256": sha256, "sha512": sha512} {
		set := load(t, `
- {name: blocked, digests: ["`+listed+`"], static: deny}
- {name: rest, images: ["ghcr.io/acme/**"], static: allow}
`, "deny")
		for _, row := range []struct{ asked, alias, want string }{
			{sha256, sha512, "blocked"},
			{sha512, sha256, "blocked"},
			{listed, listed, "blocked"},
			{testDigest('3'), "sha512:" + strings.Repeat("4", 128), "rest"},
		} {
			t.Run(name+" listed, "+row.asked[:8]+" asked", func(t *testing.T) {
				got := set.ForEither(repo(t, "ghcr.io/acme/app"), row.asked, row.alias, Client{})
				if got.Name != row.want {
					t.Errorf("%q decides, want %q", got.Name, row.want)
				}
			})
		}
	}
}
