package policy

import (
	"fmt"
	"maps"
	"slices"
)

// Identity is a signer, as a Fulcio certificate describes it.
type Identity struct {
	Issuer  Pattern            // the identity provider's URL
	Subject Pattern            // the subject alternative name; zero: any, when Claims or GitHub say who
	Claims  map[string]Pattern // by name, see ClaimNames

	// SubjectEmail compares Subject with an e-mail name alone, not with a URI or
	// another kind of name that reads the same.
	SubjectEmail bool

	// GitHub is the github: shorthand; nil without it.
	GitHub *GitHub
}

// Claims are what a certificate says of its owner. Values are the extensions of
// Fulcio's OID registry (1.3.6.1.4.1.57264.1), by ClaimNames.
type Claims struct {
	Issuer  string
	Subject string
	IsEmail bool // Subject is an e-mail name
	Values  map[string]string
}

// The claims that tell GitHub's workflows apart.
const (
	claimBuildSigner = "buildSignerURI"
	claimOwner       = "sourceRepositoryOwnerURI"
	claimRepository  = "sourceRepositoryURI"
	claimRef         = "sourceRepositoryRef"
	claimTrigger     = "buildTrigger"
)

// ClaimNames are the claims a policy may name: Fulcio's extensions in camelCase.
// issuer and subject are no claims, an identity has them by name.
func ClaimNames() []string {
	return []string{
		claimBuildSigner,
		"buildSignerDigest",
		"runnerEnvironment",
		claimRepository,
		"sourceRepositoryDigest",
		claimRef,
		"sourceRepositoryIdentifier",
		claimOwner,
		"sourceRepositoryOwnerIdentifier",
		"buildConfigURI",
		"buildConfigDigest",
		claimTrigger,
		"runInvocationURI",
		"sourceRepositoryVisibilityAtSigning",

		"githubWorkflowTrigger",
		"githubWorkflowSHA",
		"githubWorkflowName",
		"githubWorkflowRepository",
		"githubWorkflowRef",
	}
}

// Match returns nil if c satisfies the identity, or an error that describes the
// first mismatch.
func (i *Identity) Match(c Claims) error {
	if !i.Issuer.Match(c.Issuer) {
		return fmt.Errorf("issuer is not %s", i.Issuer)
	}
	if !i.Subject.IsZero() && !i.Subject.Match(c.Subject) {
		return fmt.Errorf("subject is not %s", i.Subject)
	}
	if i.SubjectEmail && !c.IsEmail {
		return fmt.Errorf("subject is not the e-mail name %s", i.Subject)
	}

	for _, name := range slices.Sorted(maps.Keys(i.Claims)) {
		if !i.Claims[name].Match(c.Values[name]) {
			return fmt.Errorf("claim %s is %.100q, not %s", name, c.Values[name], i.Claims[name])
		}
	}

	if i.GitHub != nil {
		return i.GitHub.match(c)
	}
	return nil
}

// String is the identity as reasons name it.
func (i *Identity) String() string {
	if i.GitHub != nil {
		return i.GitHub.String()
	}
	if i.Subject.IsZero() {
		return "anyone of " + i.Issuer.String() + " with its claims"
	}
	return i.Subject.String() + " of " + i.Issuer.String()
}
