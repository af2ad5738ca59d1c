package sigstore

import (
	"path"
	"strings"
)

// Email is the token of a person, as Accounts issues it.
func (s *Stack) Email(address string) (string, error) {
	return s.issuer.token(Accounts, map[string]any{"sub": address, "email": address, "email_verified": true})
}

// Workflow says which job of GitHub Actions asks for a token.
type Workflow struct {
	Repository string // owner/name whose workflow runs
	File       string // the workflow's file in it, as .github/workflows/release.yml
	Ref        string // as refs/tags/v1
	Trigger    string // default push
	Private    bool   // whether Repository is
	// Reusable is the workflow that File calls to sign, as owner/name/file@ref;
	// empty: File signs itself.
	Reusable string
}

// Actions is the token of a GitHub job.
func (s *Stack) Actions(w Workflow) (string, error) {
	const commit = "0123456789abcdef0123456789abcdef01234567"
	caller := w.Repository + "/" + w.File + "@" + w.Ref
	job := w.Reusable
	if job == "" {
		job = caller
	}
	trigger, visibility := w.Trigger, "public"
	if trigger == "" {
		trigger = "push"
	}
	if w.Private {
		visibility = "private"
	}
	owner, _, _ := strings.Cut(w.Repository, "/")
	return s.issuer.token(Actions, map[string]any{
		"sub":                   "repo:" + w.Repository + ":ref:" + w.Ref,
		"repository":            w.Repository,
		"repository_owner":      owner,
		"repository_id":         "4242",
		"repository_owner_id":   "42",
		"repository_visibility": visibility,
		"ref":                   w.Ref,
		"sha":                   commit,
		"event_name":            trigger,
		"workflow":              strings.TrimSuffix(path.Base(w.File), path.Ext(w.File)),
		"workflow_ref":          caller,
		"workflow_sha":          commit,
		"job_workflow_ref":      job,
		"job_workflow_sha":      commit,
		"runner_environment":    "github-hosted",
		"run_id":                "7",
		"run_attempt":           "1",
	})
}

// Pipeline is the token of a GitLab job of a project, as group/name, for a
// branch.
func (s *Stack) Pipeline(project, branch string) (string, error) {
	const commit = "0123456789abcdef0123456789abcdef01234567"
	return s.issuer.token(GitLab, map[string]any{
		"sub":                "project_path:" + project + ":ref_type:branch:ref:" + branch,
		"project_path":       project,
		"project_id":         "4242",
		"pipeline_source":    "push",
		"pipeline_id":        "7",
		"ci_config_ref_uri":  "gitlab.com/" + project + "//.gitlab-ci.yml@refs/heads/" + branch,
		"ci_config_sha":      commit,
		"namespace_path":     path.Dir(project),
		"namespace_id":       "42",
		"job_id":             "8",
		"ref":                branch,
		"ref_type":           "branch",
		"sha":                commit,
		"runner_environment": "gitlab-hosted",
		"runner_id":          9,
		"project_visibility": "public",
	})
}
