package policy

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// GitHub is a workflow, told by where the source is and never by the subject
// alone: a public reusable workflow gives its subject to every caller.
type GitHub struct {
	Server     string // the forge's address, "https://github.com"
	Owner      string // of the source repository; empty when Repository is set
	Repository string // owner/name of the source repository; empty when Owner is set

	// Workflow is a path in the source repository, or owner/name/path of a
	// reusable workflow; after it "@" and a glob over its ref. Empty: any.
	Workflow string
	Ref      string // glob over the source's ref, "refs/tags/v*"; empty: any
	Trigger  string // event, "push"; empty: any

	workflowRef, ref []token
}

var gitHubFields = []string{"owner", "repository", "workflow", "ref", "trigger", "issuer", "trustRoots"}

var (
	gitHubOwner      = regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9_-]{0,99})$`)
	gitHubRepository = regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9_-]{0,99})/[A-Za-z0-9._-]{1,100}$`)
	gitHubWorkflow   = regexp.MustCompile(
		`^(?:[A-Za-z0-9][A-Za-z0-9_-]{0,99}/[A-Za-z0-9._-]{1,100}/)?\.github/workflows/[A-Za-z0-9._ -]+\.ya?ml$`,
	)
	gitHubTrigger = regexp.MustCompile(`^[a-z_]{1,50}$`)
	gitRef        = regexp.MustCompile(`^refs/[^\s~^:?\[\\]+$`)
)

// github reads the github: shorthand, which is one identity.
func (l *loader) github(v value) (identities []Identity, trustRoots []string) {
	fields, ok := v.mapping()
	if !ok {
		return nil, nil
	}
	known(fields, gitHubFields)

	g := &GitHub{}
	issuer := gitHubIssuer
	for _, f := range fields {
		switch f.name {
		case "issuer":
			issuer, _ = f.text()
		case "trustRoots":
			trustRoots = l.rootNames(f.value)
		default:
			g.read(f, v.Path)
		}
	}

	if (g.Owner == "") == (g.Repository == "") {
		v.problem(
			"%s must have either owner or repository: a workflow alone can be called from any repository",
			v.Path,
		)
	}
	server, err := gitHubServer(issuer)
	if err != nil {
		v.problem("%s: issuer %.200q %v", v.Path, issuer, err)
	}
	g.Server = server
	if len(trustRoots) == 0 {
		trustRoots = []string{PublicGood, GitHubRoot}
	}
	return []Identity{{Issuer: Exactly(issuer), GitHub: g}}, trustRoots
}

// read takes one of the fields that say which workflow; what names the mapping.
func (g *GitHub) read(f field, what string) {
	formed := func(form *regexp.Regexp, example string) string {
		text, ok := f.text()
		if ok && !form.MatchString(text) {
			f.problem("%s: %s must look like %s, not %s", what, f.name, example, f.brief())
		}
		return text
	}

	switch f.name {
	case "owner":
		g.Owner = formed(gitHubOwner, "acme")
	case "repository":
		g.Repository = formed(gitHubRepository, "acme/app")
	case "workflow":
		text, _ := f.text()
		path, ref, hasRef := strings.Cut(text, "@")
		if !gitHubWorkflow.MatchString(path) || hasRef && !gitRef.MatchString(ref) {
			f.problem(
				"%s: workflow must look like .github/workflows/release.yml, or "+
					"owner/repo/.github/workflows/release.yml for a reusable one, @refs/tags/v* after it if "+
					"its ref matters, not %s",
				what,
				f.brief(),
			)
		}
		g.Workflow = text
		if hasRef {
			g.workflowRef = compileGlob(ref)
		}
	case "ref":
		g.Ref = formed(gitRef, "refs/heads/main or refs/tags/v*")
		g.ref = compileGlob(g.Ref)
	case "trigger":
		g.Trigger = formed(gitHubTrigger, "push")
	}
}

// gitHubIssuer issues the identity tokens of GitHub Actions.
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

// match returns nil if the claims are those of the workflow, or an error that
// describes the first mismatch.
func (g *GitHub) match(c Claims) error {
	source := c.Values[claimRepository]
	if g.Repository != "" && source != g.Server+"/"+g.Repository {
		return fmt.Errorf("source repository is %.100q, not %s/%s", source, g.Server, g.Repository)
	}
	if owner := c.Values[claimOwner]; g.Owner != "" && owner != g.Server+"/"+g.Owner {
		return fmt.Errorf("owner of the source repository is %.100q, not %s/%s", owner, g.Server, g.Owner)
	}

	if err := g.matchWorkflow(source, c.Values[claimBuildSigner]); err != nil {
		return err
	}

	if ref := c.Values[claimRef]; g.Ref != "" && (ref == "" || !matchTokens(g.ref, ref)) {
		return fmt.Errorf("source ref is %.100q, not %s", ref, g.Ref)
	}
	if trigger := c.Values[claimTrigger]; g.Trigger != "" && trigger != g.Trigger {
		return fmt.Errorf("build trigger is %.60q, not %s", trigger, g.Trigger)
	}
	return nil
}

// matchWorkflow compares the address of the workflow that signed, which is
// "https://github.com/owner/name/path@ref". A path without a repository is
// below source.
func (g *GitHub) matchWorkflow(source, signer string) error {
	if g.Workflow == "" {
		return nil
	}

	path, _, _ := strings.Cut(g.Workflow, "@")
	want := g.Server + "/" + path
	if strings.HasPrefix(path, ".github/") {
		want = source + "/" + path
	}

	workflow, ref, ok := strings.Cut(signer, "@")
	if !ok || source == "" || workflow != want || !isRef(ref) {
		return fmt.Errorf("workflow is %.150q, not %s", signer, want)
	}
	if g.workflowRef != nil && !matchTokens(g.workflowRef, ref) {
		return fmt.Errorf("workflow is %.150q, not %s", signer, g.Workflow)
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

// String is the workflow as reasons name it.
func (g *GitHub) String() string {
	text := "github " + g.Owner + g.Repository
	if g.Workflow != "" {
		text += " " + g.Workflow
	}
	if g.Ref != "" {
		text += " at " + g.Ref
	}
	return text
}
