package cases

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/pullgate/pullgate/cmd/pullgate/exit"
	"github.com/pullgate/pullgate/cmd/pullgate/imagename"
	"github.com/pullgate/pullgate/cmd/pullgate/recording"
	"github.com/pullgate/pullgate/cmd/pullgate/server"
	"github.com/pullgate/pullgate/cmd/pullgate/show"
	"github.com/pullgate/pullgate/cmd/pullgate/verdict"
	"github.com/pullgate/pullgate/verify"
)

// Run decides about each case under the configuration l, and prints every case
// that went otherwise than expected. Its error carries the exit code: denied when
// one did, could not tell when none did but one could not be decided.
func Run(ctx context.Context, l *server.Loaded, cases []Case, out io.Writer) error {
	wrong, untold := 0, 0
	for _, c := range cases {
		v, err := c.decide(ctx, l)
		if err != nil {
			untold++
			fmt.Fprintf(out, "%s: %s: could not tell: %v\n", c.where, c.Image, err)
			continue
		}

		if problem := c.compare(v); problem != "" {
			wrong++
			fmt.Fprintf(out, "%s: %s: %s\n%s", c.where, c.Image, problem, verdict.Text(v, l.Policies))
		}
	}
	fmt.Fprintf(out, "%s, %d as expected\n", show.Counted(len(cases), "case"), len(cases)-wrong-untold)

	switch {
	case wrong > 0:
		return exit.With(exit.Denied, fmt.Errorf("%d of %d cases went otherwise", wrong, len(cases)))
	case untold > 0:
		return fmt.Errorf("%d of %d cases could not be told", untold, len(cases))
	}
	return nil
}

func (c Case) decide(ctx context.Context, l *server.Loaded) (verify.Verdict, error) {
	image, err := imagename.Parse(c.Image)
	if err != nil {
		return verify.Verdict{}, err
	}

	dir, err := os.MkdirTemp("", "pullgate-test-")
	if err != nil {
		return verify.Verdict{}, fmt.Errorf("make a folder for the state: %w", err)
	}
	defer os.RemoveAll(dir)

	if c.Recorded != "" {
		from, err := recording.Read(c.Recorded)
		if err != nil {
			return verify.Verdict{}, err
		}
		l = l.Through(from.Replayer)
	}
	return verdict.Of(ctx, l, dir, image, c.client)
}

// compare says what is not as expected, or nothing.
func (c Case) compare(v verify.Verdict) string {
	switch {
	case v.Outcome.String() != c.Outcome:
		return fmt.Sprintf("%s, expected %s", v.Outcome, c.Outcome)
	case c.Policy != "" && v.Policy != c.Policy:
		return fmt.Sprintf("policy %q decided, expected %q", v.Policy, c.Policy)
	case c.Reason != "" && !strings.Contains(v.Message(), c.Reason):
		return fmt.Sprintf("the reason does not say %q", c.Reason)
	}
	return ""
}
