package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/pullgate/pullgate/cmd/pullgate/exit"
	"github.com/pullgate/pullgate/cmd/pullgate/show"
	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify"
)

// comparison is what another configuration would change. It is what replay
// prints as JSON.
type comparison struct {
	From         time.Time `json:"from"`
	To           time.Time `json:"to"`
	Requests     int       `json:"requests"`
	Images       int       `json:"images"`
	Refused      []change  `json:"refused"`  // were pulled, and would be refused
	Admitted     []change  `json:"admitted"` // were refused, and would be admitted
	Warned       []change  `json:"warned"`   // would be admitted, and only because of mode: warn
	Untold       []change  `json:"untold"`   // could not be told
	Same         int       `json:"same"`     // images whose outcome would stay
	Errors       int       `json:"errors"`   // decisions that were errors when they were recorded
	UnknownParts int       `json:"unknownParts"`
	Unreadable   int       `json:"unreadable"` // lines

	leftOut string
}

// change is one image of a comparison.
type change struct {
	Image    string          `json:"image"` // with its digest, or its tag where no digest is known
	Tags     []string        `json:"tags,omitempty"`
	Was      string          `json:"was"` // the last recorded outcome
	Now      string          `json:"now"`
	Policy   string          `json:"policy,omitempty"`
	Reasons  []verify.Reason `json:"reasons,omitempty"`
	Error    string          `json:"error,omitempty"`
	Requests int             `json:"requests"`
	Clients  int             `json:"clients"` // 10000 stands for more, too
	Last     time.Time       `json:"last"`
	Parts    int             `json:"parts,omitempty"` // platforms of it that were pulled and change with it

	image *pulledImage
}

func (h *history) compare() *comparison {
	c := &comparison{
		From:         h.first,
		To:           h.last,
		Requests:     h.requests,
		Images:       len(h.images),
		Errors:       h.untold,
		UnknownParts: h.unknownParts,
		Unreadable:   h.unreadable,
		leftOut:      h.leftOut(),
	}
	for _, p := range h.images {
		if group := c.groupOf(p); group != nil {
			*group = append(*group, p.change())
		} else {
			c.Same++
		}
	}
	for _, group := range []*[]change{&c.Refused, &c.Admitted, &c.Warned, &c.Untold} {
		*group = withoutParts(*group)
	}
	return c
}

// groupOf is where p is listed; nil: nothing changes.
func (c *comparison) groupOf(p *pulledImage) *[]change {
	wasRefused := p.outcome == verify.Denied.String()
	switch {
	case p.err != nil || p.now.Outcome == verify.WarnedUnverified:
		return &c.Untold
	case p.now.Outcome == verify.Denied && p.admitted > 0:
		return &c.Refused
	case p.now.Outcome == verify.Denied:
		return nil
	case wasRefused:
		return &c.Admitted
	case p.now.Outcome == verify.Warned:
		return &c.Warned
	}
	return nil
}

func (p *pulledImage) change() change {
	c := change{
		Image:    p.image.String(),
		Tags:     p.tags,
		Was:      p.outcome,
		Now:      "error",
		Requests: p.admitted + p.refused,
		Clients:  len(p.clients),
		Last:     p.last,
		image:    p,
	}
	if p.err != nil {
		c.Error = show.Printable(show.Shorten(p.err.Error(), 500))
		return c
	}
	c.Now, c.Policy = p.now.Outcome.String(), p.now.Policy
	for _, r := range p.now.Reasons {
		c.Reasons = append(c.Reasons, verify.Reason{
			Code:      r.Code,
			Authority: show.Printable(r.Authority),
			Text:      show.Printable(show.Shorten(r.Text, 500)),
		})
	}
	return c
}

// withoutParts counts the platforms of an image with it, where both change
// alike: nobody signs them one by one.
func withoutParts(list []change) []change {
	at := map[policy.Image]int{}
	for i, c := range list {
		at[c.image.image] = i
	}
	parts := map[policy.Image]int{}
	whole := []change{}
	for _, c := range list {
		listed := false
		for _, parent := range c.image.parents {
			above := c.image.image.At(parent)
			if i, ok := at[above]; ok && list[i].Now == c.Now {
				parts[above]++
				listed = true
			}
		}
		if !listed {
			whole = append(whole, c)
		}
	}
	if len(whole) == 0 && len(list) > 0 { // only lines that nobody recorded make all of them parts of each other
		return list
	}
	for i := range whole {
		whole[i].Parts = parts[whole[i].image.image]
	}
	return whole
}

func (c *comparison) print(out io.Writer, asJSON bool) error {
	var text strings.Builder
	if asJSON {
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		_ = encoder.Encode(c) // a struct of strings and numbers always encodes
	} else {
		c.tell(&text)
	}
	if _, err := io.WriteString(out, text.String()); err != nil {
		return fmt.Errorf("print the comparison: %w", err)
	}
	switch {
	case len(c.Refused) > 0:
		return exit.With(
			exit.Denied,
			fmt.Errorf("%s that were pulled would be refused", show.Counted(len(c.Refused), "image")))

	case len(c.Untold) > 0:
		return fmt.Errorf("about %d images it could not be told", len(c.Untold))
	case c.Images == 0:
		return errors.New("no image was judged")
	}
	return nil
}

func (c *comparison) tell(b *strings.Builder) {
	fmt.Fprintf(
		b,
		"%s in %s, %s to %s\n",
		show.Counted(c.Images, "image"),
		show.Counted(c.Requests, "request"),
		c.From.UTC().Format(time.RFC3339),
		c.To.UTC().Format(time.RFC3339),
	)
	for _, group := range []struct {
		title string
		list  []change
	}{
		{"were pulled, and would be refused", c.Refused},
		{"were refused, and would be admitted", c.Admitted},
		{"would be admitted only because of mode: warn", c.Warned},
		{"could not be told", c.Untold},
	} {
		fmt.Fprintf(b, "\n%s: %d\n", group.title, len(group.list))
		for _, one := range group.list {
			one.tell(b)
		}
	}
	fmt.Fprintf(b, "\nas before: %d\n", c.Same)
	if c.leftOut != "" {
		fmt.Fprintf(b, "not judged: %s\n", c.leftOut)
	}
}

func (c *change) tell(b *strings.Builder) {
	fmt.Fprintf(b, "  %s", c.Image)
	if len(c.Tags) > 0 {
		fmt.Fprintf(b, " (%s)", strings.Join(c.Tags, ", "))
	}
	fmt.Fprintf(
		b,
		"\n    %s -> %s; %s by %s, last %s",
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
			fmt.Fprintf(b, "    policy %q, authority %q: %s\n", c.Policy, r.Authority, r.Text)
		} else {
			fmt.Fprintf(b, "    policy %q: %s\n", c.Policy, r.Text)
		}
	}
}
