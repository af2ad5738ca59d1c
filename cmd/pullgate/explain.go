package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pullgate/pullgate/cmd/pullgate/config"
	"github.com/pullgate/pullgate/cmd/pullgate/decisions"
	"github.com/pullgate/pullgate/cmd/pullgate/exit"
	"github.com/pullgate/pullgate/cmd/pullgate/imagename"
)

// decisionSource is where a command's flags say that decisions are.
type decisionSource struct {
	config string   // file
	admin  string   // URL of a running gate's admin port, or ""
	files  []string // instead of both
}

func explainCommand() *cobra.Command {
	var from decisionSource
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "explain IMAGE|ID [--config FILE | --admin URL | --decisions FILE]",
		Short: "Say why the gate decided as it did",
		Long: `explain finds what the gate has decided about an image, newest first, with what it
decided about layers and configs folded, or the one decision with an id: the
Pullgate-Decision header of the answer, which is in the error's detail, the log
and the trace too. An image is named as in policies or as
it is pulled through the gate, with a tag, a digest, or neither.

It asks the running gate, on the configuration's admin.listen or at --admin; when
nothing answers there, it reads the file the gate has written.

It exits 0 when the newest decision admitted the image, 1 when it refused it, 2
when the gate could not tell, or when no decision is found.`,
		Example: "  pullgate explain ghcr.io/acme/app:v1\n" +
			"  pullgate explain 5RZQGQ2LJ3XN7T4TDVZK6HSBAE --admin http://gate.example:5001",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := from.account(cmd, args[0])
			if err != nil {
				return err
			}

			text := a.text()
			if asJSON {
				text = recordLines(a.decisions) + recordLines(a.parts)
			}
			if _, err := io.WriteString(cmd.OutOrStdout(), text); err != nil {
				return fmt.Errorf("print the decision: %w", err)
			}
			return outcomeError(&a.decisions[0])
		},
	}

	f := cmd.Flags()
	configFlag(cmd, &from.config)
	f.StringVar(&from.admin, "admin", "", "the running gate's admin `URL`, e.g. http://127.0.0.1:5001")
	f.StringArrayVar(&from.files, "decisions", nil,
		"a `FILE` of decisions to read instead; may be given again for older ones")
	f.BoolVar(&asJSON, "json", false, "print the decisions as JSON, one per line")
	cmd.MarkFlagsMutuallyExclusive("admin", "decisions")
	return cmd
}

// account is what is recorded about an image, or one decision: at least one.
type account struct {
	decisions []decisions.Record // about manifests, the newest first; else one about a part
	parts     []decisions.Record // about configs and layers, the newest first
}

// maxParts bounds the decisions about parts of an image that are folded.
const maxParts = 1000

// account finds what is recorded about an image or under an id.
func (s decisionSource) account(cmd *cobra.Command, asked string) (account, error) {
	id, image := asked, ""
	if !decisions.IsID(asked) {
		id, image = "", asked
	}
	q, err := decisions.NewQuery(id, image, "", 0)
	if err != nil {
		return account{}, err
	}

	a, err := s.accountOf(cmd, q)
	if inner, ok := imagename.Through(q.Image); ok && err == nil && len(a.decisions) == 0 {
		q.Image = inner
		a, err = s.accountOf(cmd, q)
	}
	if err == nil && len(a.decisions) == 0 {
		err = fmt.Errorf("no decision about %s is recorded: perhaps it never asked the gate "+
			"(`pullgate doctor` finds out), it is older than what is kept, or it has another name here", asked)
	}
	return a, err
}

// accountOf asks for manifests and parts by themselves: an image has many layers,
// and a runtime asks for each several times.
func (s decisionSource) accountOf(cmd *cobra.Command, q decisions.Query) (a account, err error) {
	if q.ID != "" {
		a.decisions, err = s.find(cmd, q)
		return a, err
	}

	q.Kind = decisions.KindManifest
	if a.decisions, err = s.find(cmd, q); err != nil {
		return a, err
	}
	q.Kind, q.Limit = decisions.KindBlob, maxParts
	if len(a.decisions) == 0 {
		q.Kind = "" // whatever there is
	}
	if a.parts, err = s.find(cmd, q); err != nil {
		return a, err
	}

	if len(a.decisions) == 0 && len(a.parts) > 0 {
		a.decisions, a.parts = a.parts[:1], a.parts[1:]
	}
	return a, nil
}

// find looks where the flags say: in files, at a running gate, or for what the
// configuration tells of both.
func (s decisionSource) find(cmd *cobra.Command, q decisions.Query) ([]decisions.Record, error) {
	ctx := cmd.Context()
	if len(s.files) > 0 {
		if err := decisions.CheckFiles(s.files); err != nil {
			return nil, err
		}
		return q.FindIn(ctx, s.files)
	}
	if s.admin != "" {
		return q.Ask(ctx, strings.TrimSuffix(s.admin, "/"))
	}

	c, problems := config.Read(s.config, os.Environ())
	if len(problems) > 0 {
		return nil, refuse(cmd.ErrOrStderr(), problems)
	}
	q.Image = c.Image(q.Image)
	found, err := q.Ask(ctx, "http://"+reachable(c.Admin.Listen))
	var unreachable *url.Error
	if !errors.As(err, &unreachable) || c.Decisions.To != "file" {
		return found, err
	}
	return q.FindIn(ctx, decisions.Files(c.DecisionsFile(), c.Decisions.Keep))
}

// reachable returns an address to call where addr is one to listen on.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("localhost", port)
	}
	return addr
}

// outcomeError is how explain ends, by the newest decision.
func outcomeError(newest *decisions.Record) error {
	switch {
	case newest.Refused():
		return exit.With(exit.Denied, errors.New("refused"))
	case newest.Outcome == decisions.OutcomeError:
		return errors.New("the gate could not tell")
	}
	return nil
}

// recordLines writes records as JSON, one per line.
func recordLines(found []decisions.Record) string {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	for i := range found {
		_ = encoder.Encode(&found[i]) // a struct of strings and numbers always encodes
	}
	return text.String()
}

// text writes the newest decision whole, each of the others in a line, and those
// about parts in a line for each outcome.
func (a account) text() string {
	var b strings.Builder
	newest := &a.decisions[0]
	explainDecision(&b, newest)
	explainRequest(&b, newest)
	if lines := newest.Advice(); len(lines) > 0 {
		fmt.Fprintf(&b, "what to do\n  %s\n", strings.Join(lines, "\n  "))
	}

	if len(a.decisions) > 1 {
		b.WriteString("earlier:\n")
	}
	for _, r := range a.decisions[1:] {
		fmt.Fprintf(&b, "  %s  %-8s %s %s %s, client %s, id %s\n",
			r.Time.Format(time.RFC3339), r.Outcome, r.Method, r.Kind, r.Reference, r.By(), r.ID)
	}
	explainParts(&b, a.parts)
	return b.String()
}

// explainParts folds what was decided about configs and layers: for each outcome,
// how often, and the newest.
func explainParts(b *strings.Builder, parts []decisions.Record) {
	if len(parts) == 0 {
		return
	}

	b.WriteString("its layers and configs:\n")
	count, newest := map[string]int{}, []decisions.Record{}
	for _, r := range parts {
		if count[r.Outcome]++; count[r.Outcome] == 1 {
			newest = append(newest, r)
		}
	}
	for _, r := range newest {
		fmt.Fprintf(b, "  %d × %s, the newest %s, client %s, id %s\n",
			count[r.Outcome], r.Outcome, r.Time.Format(time.RFC3339), r.By(), r.ID)
	}
}

// explainDecision writes what was decided, by which policy, and why.
func explainDecision(b *strings.Builder, r *decisions.Record) {
	fmt.Fprintf(b, "%s\n  %s", r.Name(), r.Outcome)
	if r.Policy != "" {
		fmt.Fprintf(b, " by policy %q", r.Policy)
	}
	if r.PolicyHash != "" {
		fmt.Fprintf(b, " (%.12s)", r.PolicyHash)
	}
	fmt.Fprintf(b, ", answered %d\n", r.Status)
	if r.Signer != "" {
		fmt.Fprintf(b, "  by %s\n", r.Signer)
	}

	for _, f := range r.Findings {
		passed := "did not pass"
		if f.Passed {
			passed = "passed"
		}
		fmt.Fprintf(b, "  authority %q %s: %s\n", f.Authority, passed, f.Detail)
	}
	for _, reason := range r.OtherReasons() {
		if reason.Authority != "" {
			fmt.Fprintf(b, "  authority %q: %s\n", reason.Authority, reason.Reason)
		} else {
			fmt.Fprintf(b, "  %s\n", reason.Reason)
		}
	}
	if r.Error != "" {
		fmt.Fprintf(b, "  %s\n", r.Error)
	}
}

// explainRequest writes what was asked, by which client, and how long it took.
func explainRequest(b *strings.Builder, r *decisions.Record) {
	fmt.Fprintf(b, "asked\n  %s %s %s, by client %s", r.Method, r.Kind, r.Reference, r.By())
	if r.Agent != "" {
		fmt.Fprintf(b, " (%s)", r.Agent)
	}

	fmt.Fprintf(b, "\n  %s, took %.1f ms, %.1f of it waiting for registries",
		r.Time.Format(time.RFC3339), r.Took, r.Upstream)
	if r.Cache {
		b.WriteString(", from memory")
	}
	fmt.Fprintf(b, "\n  decision %s\n", r.ID)
}
