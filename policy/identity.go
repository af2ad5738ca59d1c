package policy

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Identity is who may have signed, as a Fulcio certificate says it.
type Identity struct {
	Issuer  Pattern            // the identity provider's URL
	Subject Pattern            // the subject alternative name; zero: any, when Claims or GitHub say who
	Claims  map[string]Pattern // by name, see ClaimNames

	// GitHub is the github: shorthand; nil without it.
	GitHub *GitHub
}

// Claims are what a certificate says of its owner: the extensions of Fulcio's
// OID registry (1.3.6.1.4.1.57264.1), by ClaimNames.
type Claims struct {
	Issuer  string
	Subject string
	Values  map[string]string
}

// The claims that GitHub's workflows are told apart by.
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

// GitHub is a workflow, told by where the source is and never by the subject
// alone: whoever calls a public reusable workflow gets its subject.
type GitHub struct {
	Server     string // the forge's address, "https://github.com"
	Owner      string // of the source repository; empty when Repository is set
	Repository string // owner/name of the source repository; empty when Owner is set
	// path in the source repository, or owner/name/path of a reusable one, "@ref" glob after it; empty: any
	Workflow string
	Ref      string // glob over the source's ref, "refs/tags/v*"; empty: any
	Trigger  string // event, "push"; empty: any

	workflowRef, ref []token
}

func (g *GitHub) match(c Claims) error {
	source := c.Values[claimRepository]
	if g.Repository != "" && source != g.Server+"/"+g.Repository {
		return fmt.Errorf("source repository is %.100q, not %s/%s", source, g.Server, g.Repository)
	}
	if owner := c.Values[claimOwner]; g.Owner != "" && owner != g.Server+"/"+g.Owner {
		return fmt.Errorf("owner of the source repository is %.100q, not %s/%s", owner, g.Server, g.Owner)
	}
	if g.Workflow != "" {
		path, _, _ := strings.Cut(g.Workflow, "@")
		want := g.Server + "/" + path
		if strings.HasPrefix(path, ".github/") {
			want = source + "/" + path
		}
		signer := c.Values[claimBuildSigner]
		workflow, ref, ok := strings.Cut(signer, "@")
		if !ok || source == "" || workflow != want || !isRef(ref) {
			return fmt.Errorf("workflow is %.150q, not %s", signer, want)
		}
		if g.workflowRef != nil && !matchTokens(g.workflowRef, ref) {
			return fmt.Errorf("workflow is %.150q, not %s", signer, g.Workflow)
		}
	}
	if ref := c.Values[claimRef]; g.Ref != "" && (ref == "" || !matchTokens(g.ref, ref)) {
		return fmt.Errorf("source ref is %.100q, not %s", ref, g.Ref)
	}
	if trigger := c.Values[claimTrigger]; g.Trigger != "" && trigger != g.Trigger {
		return fmt.Errorf("build trigger is %.60q, not %s", trigger, g.Trigger)
	}
	return nil
}

// isRef reports whether what follows the @ in a workflow's address is a ref or a
// commit. A file may have an @ in its name, but no slash: a.yml@b.yml is another
// workflow than a.yml.
func isRef(text string) bool {
	return strings.HasPrefix(text, "refs/") || commit.MatchString(text)
}

var commit = regexp.MustCompile(`^(?:[0-9a-f]{40}|[0-9a-f]{64})$`)

func matchTokens(tokens []token, text string) bool {
	run := newGlobRun(tokens)
	for i := 0; i < len(text); i++ {
		run.read(token(text[i]))
	}
	return run.accepted()
}

// String is the identity as reasons name it.
func (i *Identity) String() string {
	if g := i.GitHub; g != nil {
		text := "github " + g.Owner + g.Repository
		if g.Workflow != "" {
			text += " " + g.Workflow
		}
		if g.Ref != "" {
			text += " at " + g.Ref
		}
		return text
	}
	if i.Subject.IsZero() {
		return "anyone of " + i.Issuer.String() + " with its claims"
	}
	return i.Subject.String() + " of " + i.Issuer.String()
}

// gitHubIssuer is who issues the identity tokens of GitHub Actions.
const gitHubIssuer = "https://token.actions.githubusercontent.com"

// gitHubServer is the forge behind an Actions issuer: github.com, also for an
// enterprise's own issuer there; a data-residency tenant's host; a GitHub
// Enterprise Server.
func gitHubServer(issuer string) (string, error) {
	u, err := url.Parse(issuer)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", errors.New("must be an https address")
	}
	if issuer == gitHubIssuer || strings.HasPrefix(issuer, gitHubIssuer+"/") {
		return "https://github.com", nil
	}
	if tenant, ok := strings.CutPrefix(u.Host, "token.actions."); ok && strings.HasSuffix(tenant, ".ghe.com") {
		return "https://" + tenant, nil
	}
	if u.Path == "/_services/token" {
		return "https://" + u.Host, nil
	}
	return "", fmt.Errorf(
		"is no issuer of GitHub Actions: %s, https://token.actions.TENANT.ghe.com, or https://SERVER/_services/token",
		gitHubIssuer,
	)
}
