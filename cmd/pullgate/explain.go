package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pullgate/pullgate/cmd/pullgate/config"
	"github.com/pullgate/pullgate/cmd/pullgate/exit"
	"github.com/pullgate/pullgate/cmd/pullgate/show"
	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy"
	"github.com/pullgate/pullgate/verify"
)

func explainCommand() *cobra.Command {
	var file, admin string
	var files []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "explain IMAGE|ID [--config FILE | --admin URL | --decisions FILE]",
		Short: "Say why the gate decided as it did",
		Long: `explain finds what the gate has decided about an image, newest first, or the one
decision with an id: the Pullgate-Decision header of the answer, which is in the
error's detail, the log and the trace too. An image is named as in policies, with
a tag, a digest, or neither.

It asks the running gate, on the configuration's admin.listen or at --admin; when
nothing answers there, it reads the file the gate has written.

It exits 0 when the newest decision admitted the image, 1 when it refused it, 2
when the gate could not tell, or when no decision is found.`,
		Example: "  pullgate explain ghcr.io/acme/app:v1\n" +
			"  pullgate explain 5RZQGQ2LJ3XN7T4TDVZK6HSBAE --admin http://gate.example:5001",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, image := args[0], ""
			if !decisionID.MatchString(id) {
				id, image = "", args[0]
			}
			q, err := newDecisionQuery(id, image, "", decisionsUsual)
			if err != nil {
				return err
			}
			found, err := ask(cmd, q, file, admin, files)
			if err != nil {
				return err
			}
			return explain(found, args[0], asJSON, cmd.OutOrStdout())
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().StringVar(&admin, "admin", "", "the running gate's admin `URL`, e.g. http://127.0.0.1:5001")
	cmd.Flags().StringArrayVar(
		&files,
		"decisions",
		nil,
		"a `FILE` of decisions to read instead; may be given again for older ones",
	)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the decisions as JSON, one per line")
	cmd.MarkFlagsMutuallyExclusive("admin", "decisions")
	return cmd
}

// ask looks where the flags say: in files, at a running gate, or for what the
// configuration tells of both.
func ask(cmd *cobra.Command, q decisionQuery, file, admin string, files []string) ([]proxy.Decision, error) {
	ctx := cmd.Context()
	if len(files) > 0 {
		if err := allThere(files); err != nil {
			return nil, err
		}
		return askFiles(ctx, q, files)
	}
	if admin != "" {
		return askAdmin(ctx, q, strings.TrimSuffix(admin, "/"))
	}
	c, problems := config.Read(file, os.Environ())
	if len(problems) > 0 {
		return nil, refuse(cmd.ErrOrStderr(), problems)
	}
	found, err := askAdmin(ctx, q, "http://"+reachable(c.Admin.Listen))
	var unreachable *url.Error
	if !errors.As(err, &unreachable) || c.Decisions.To != "file" {
		return found, err
	}
	return askFiles(ctx, q, decisionFiles(c.DecisionsFile(), c.Decisions.Keep))
}

// reachable is an address to call where addr is one to listen on.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("localhost", port)
	}
	return addr
}

func askFiles(ctx context.Context, q decisionQuery, files []string) ([]proxy.Decision, error) {
	found, _, err := q.find(ctx, newestLines(files))
	if len(found) > 0 {
		return found, nil // what could not be read is older or newer, and not what was asked for first
	}
	return nil, err
}

func askAdmin(ctx context.Context, q decisionQuery, admin string) ([]proxy.Decision, error) {
	values := url.Values{"limit": {fmt.Sprint(q.limit)}}
	for key, value := range map[string]string{"id": q.id, "image": q.image.String()} {
		if value != "" {
			values.Set(key, value)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, admin+"/decisions?"+values.Encode(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask the gate: %w", err)
	}
	resp, err := (&http.Client{Timeout: decisionsFindTime + 10*time.Second}).Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the gate: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 2*decisionsBytes))
	if err != nil {
		return nil, fmt.Errorf("read the gate's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf(
			"the gate answered %d: %s",
			resp.StatusCode,
			show.Printable(show.Shorten(strings.TrimSpace(string(body)), 300)),
		)
	}
	var answer foundDecisions
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("%s is no gate's admin port: its answer is not understood: %w", admin, err)
	}
	for i := range answer.Decisions {
		answer.Decisions[i] = harmless(answer.Decisions[i])
	}
	return answer.Decisions, nil
}

// explain prints the newest decision whole and the others in one line each.
func explain(found []proxy.Decision, asked string, asJSON bool, out io.Writer) error {
	if len(found) == 0 {
		return fmt.Errorf(
			"no decision about %s is recorded: perhaps it never asked the gate (`pullgate doctor` finds out), it "+
				"is older than what is kept, or it has another name here",
			asked,
		)
	}
	var text strings.Builder
	if asJSON {
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false)
		for i := range found {
			_ = encoder.Encode(&found[i]) // a struct of strings and numbers always encodes
		}
	} else {
		tell(&text, &found[0])
		if len(found) > 1 {
			text.WriteString("earlier:\n")
		}
		for _, d := range found[1:] {
			fmt.Fprintf(
				&text,
				"  %s  %-8s %s %s %s, client %s, id %s\n",
				d.Time.UTC().Format(time.RFC3339),
				d.Outcome,
				d.Method,
				d.Kind,
				d.Reference,
				d.Client,
				d.ID,
			)
		}
	}
	if _, err := io.WriteString(out, text.String()); err != nil {
		return fmt.Errorf("print the decision: %w", err)
	}
	switch found[0].Outcome {
	case verify.Denied.String():
		return exit.With(exit.Denied, errors.New("refused"))
	case "error":
		return errors.New("the gate could not tell")
	}
	return nil
}

func tell(b *strings.Builder, d *proxy.Decision) {
	fmt.Fprintf(b, "%s\n", decidedAbout(d))
	fmt.Fprintf(b, "  %s", d.Outcome)
	if d.Policy != "" {
		fmt.Fprintf(b, " by policy %q", d.Policy)
	}
	if d.PolicyHash != "" {
		fmt.Fprintf(b, " (%s)", shortHash(d.PolicyHash))
	}
	fmt.Fprintf(b, ", answered %d\n", d.Status)
	if d.Signer != "" {
		fmt.Fprintf(b, "  by %s\n", d.Signer)
	}
	for _, f := range d.Findings {
		passed := "did not pass"
		if f.Passed {
			passed = "passed"
		}
		fmt.Fprintf(b, "  authority %q %s: %s\n", f.Authority, passed, f.Detail)
	}
	for _, r := range d.Reasons {
		told := slices.ContainsFunc(
			d.Findings,
			func(f verify.Finding) bool { return f.Authority == r.Authority && f.Detail == r.Reason },
		)
		switch {
		case told:
		case r.Authority != "":
			fmt.Fprintf(b, "  authority %q: %s\n", r.Authority, r.Reason)
		default:
			fmt.Fprintf(b, "  %s\n", r.Reason)
		}
	}
	if d.Error != "" {
		fmt.Fprintf(b, "  %s\n", d.Error)
	}
	fmt.Fprintf(b, "asked\n  %s %s %s, by client %s", d.Method, d.Kind, d.Reference, d.Client)
	if d.Agent != "" {
		fmt.Fprintf(b, " (%s)", d.Agent)
	}
	fmt.Fprintf(
		b,
		"\n  %s, took %.1f ms, %.1f of it waiting for registries",
		d.Time.UTC().Format(time.RFC3339),
		d.Took,
		d.Upstream,
	)
	if d.Cache {
		b.WriteString(", from memory")
	}
	fmt.Fprintf(b, "\n  decision %s\n", d.ID)
	if what := advice(d); what != "" {
		fmt.Fprintf(b, "what to do\n  %s\n", what)
	}
}

func decidedAbout(d *proxy.Decision) string {
	if d.Digest != "" {
		return recordedName(d.Image, d.Digest)
	}
	return recordedName(d.Image, d.Reference)
}

// recordedName joins two texts of a record, which may be anything, as an image
// is written.
func recordedName(repo, reference string) string {
	if ref, err := policy.ParseReference(reference); err == nil && ref.Digest != "" {
		return repo + "@" + reference
	}
	return repo + ":" + reference
}

func shortHash(hash string) string { return hash[:min(len(hash), 12)] }

// advice is what helps, by what the decision was about.
func advice(d *proxy.Decision) string {
	image := decidedAbout(d)
	now := "pullgate verify " + image + " --config FILE says what the gate would decide now."
	signature := slices.ContainsFunc(d.Reasons, func(r verify.Reason) bool {
		return r.Authority != "" || strings.HasPrefix(r.Reason, "no signature found")
	})
	refused := "Nothing, if that is meant. "
	switch {
	case d.Outcome == "error" && d.Status == http.StatusNotFound:
		return "Check the name: the registry says that there is no such image, or asks for credentials that the " +
			"gate has not."
	case d.Outcome == "error" && d.Status == http.StatusTooManyRequests:
		return "Wait and pull again. If it happens often, give the gate credentials for that registry, or raise " +
			"limits.clientMisses."
	case d.Outcome == "error" && d.Status < http.StatusInternalServerError:
		return "The image or the request has to change; the gate cannot serve it as it is."
	case d.Outcome == "error":
		return "Pull again: this is never remembered. If it stays, see what failed above: a registry that is " +
			"down,\n  or a trust root or key that is not loaded (pullgate_trust_age_seconds).\n  " + now
	case d.Unknown:
		return "Pull the image by its tag, or run pullgate warm on it: a part is served when the gate knows an " +
			"admitted image that lists it."
	case d.Outcome == verify.Allowed.String():
		return ""
	case d.Outcome == verify.WarnedUnverified.String():
		return "It was admitted only because of mode: warn: it could not be verified, and enforced it would have " +
			"been a 503.\n  " + now
	case d.Outcome == verify.Warned.String():
		refused = "It was admitted only because of mode: warn. Before you enforce: "
	}
	if signature {
		return refused + "Have the image signed by one that the policy trusts (pullgate sign, cosign sign),\n" +
			"  or add the key of whoever signed it to the policy.\n  " + now
	}
	return refused + "Change the policy that decides about this repository, or add one before it that trusts a " +
		"signer of this image.\n  " + now
}
