package replay

import (
	"fmt"
	"strings"
	"time"

	"github.com/pullgate/pullgate/cmd/pullgate/show"
)

// Text returns c as people read it.
func (c *Comparison) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s in %s, %s to %s\n",
		show.Counted(c.Images, "image"),
		show.Counted(c.Requests, "request"),
		c.From.UTC().Format(time.RFC3339),
		c.To.UTC().Format(time.RFC3339),
	)

	for _, group := range []struct {
		title string
		list  []Change
	}{
		{"were pulled, and would be refused", c.Refused},
		{"were refused, and would be admitted", c.Admitted},
		{"would be admitted only because of mode: warn", c.Warned},
		{"could not be told", c.Undecided},
	} {
		fmt.Fprintf(&b, "\n%s: %d\n", group.title, len(group.list))
		for _, one := range group.list {
			one.write(&b)
		}
	}

	fmt.Fprintf(&b, "\nas before: %d\n", c.Same)
	if c.leftOut != "" {
		fmt.Fprintf(&b, "not judged: %s\n", c.leftOut)
	}
	return b.String()
}

func (c *Change) write(b *strings.Builder) {
	fmt.Fprintf(b, "  %s", c.Image)
	if len(c.Tags) > 0 {
		fmt.Fprintf(b, " (%s)", strings.Join(c.Tags, ", "))
	}

	if c.Client != "" {
		fmt.Fprintf(b, " for clients such as %s", c.Client)
	}

	fmt.Fprintf(b, "\n    %s -> %s; %s by %s, last %s",
		c.Was,
		c.Now,
		show.Counted(c.Requests, "request"),
		show.Counted(c.Clients, "client"),
		c.Last.UTC().Format(time.RFC3339),
	)
	if c.Parts > 0 {
		fmt.Fprintf(b, "; with %s of it", show.Counted(c.Parts, "part"))
	}
	b.WriteString("\n")

	if c.Error != "" {
		fmt.Fprintf(b, "    %s\n", c.Error)
	}
	for _, r := range c.Reasons {
		if r.Authority != "" {
			fmt.Fprintf(b, "    policy %q, authority %q: %s\n", c.Policy, r.Authority, r.Reason)
		} else {
			fmt.Fprintf(b, "    policy %q: %s\n", c.Policy, r.Reason)
		}
	}
}
