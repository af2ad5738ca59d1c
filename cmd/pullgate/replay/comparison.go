package replay

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/pullgate/pullgate/cmd/pullgate/decisions"
	"github.com/pullgate/pullgate/cmd/pullgate/show"
	"github.com/pullgate/pullgate/verify"
)

// maxTextBytes bounds an error or a reason of a comparison.
const maxTextBytes = 500

// Comparison is what another configuration would change. It is what replay prints
// as JSON. All of its texts are printable.
type Comparison struct {
	From         time.Time `json:"from"`
	To           time.Time `json:"to"`
	Requests     int       `json:"requests"`
	Images       int       `json:"images"`
	Refused      []Change  `json:"refused"`   // were pulled, and would be refused
	Admitted     []Change  `json:"admitted"`  // were refused, and would be admitted
	Warned       []Change  `json:"warned"`    // would be admitted, and only because of mode: warn
	Undecided    []Change  `json:"undecided"` // could not be told
	Same         int       `json:"same"`      // images whose outcome would stay
	Errors       int       `json:"errors"`    // decisions that were errors when they were recorded
	UnknownParts int       `json:"unknownParts"`
	Unreadable   int       `json:"unreadable"` // lines

	leftOut string
}

// Change is one image of a comparison.
type Change struct {
	Image string `json:"image"` // with its digest, or its tag where no digest is known

	// Client is one of those for whom it changes, where policies tell clients apart.
	Client string `json:"client,omitempty"`

	Tags     []string           `json:"tags,omitempty"`
	Was      string             `json:"was"` // the last recorded outcome
	Now      string             `json:"now"`
	Policy   string             `json:"policy,omitempty"`
	Reasons  []decisions.Reason `json:"reasons,omitempty"`
	Error    string             `json:"error,omitempty"`
	Requests int                `json:"requests"`
	Clients  int                `json:"clients"` // 10000 stands for more, too
	Last     time.Time          `json:"last"`
	Parts    int                `json:"parts,omitempty"` // platforms of it that were pulled and change with it

	image *image
}

// Compare compares what was recorded with what Judge found.
func (h *History) Compare() *Comparison {
	c := &Comparison{
		From:         h.first,
		To:           h.last,
		Requests:     h.requests,
		Images:       len(h.images),
		Errors:       h.failed,
		UnknownParts: h.unknownParts,
		Unreadable:   h.unreadable,
		leftOut:      h.leftOut(),
	}

	for _, i := range h.images {
		if group := c.groupOf(i); group != nil {
			*group = append(*group, newChange(i))
		} else {
			c.Same++
		}
	}
	for _, group := range []*[]Change{&c.Refused, &c.Admitted, &c.Warned, &c.Undecided} {
		*group = withoutParts(*group)
	}
	return c
}

// groupOf returns the list that i belongs to, or nil when nothing changes for it.
func (c *Comparison) groupOf(i *image) *[]Change {
	switch {
	case i.err != nil || i.now.Outcome == verify.WarnedUnverified:
		return &c.Undecided
	case i.now.Outcome == verify.Denied && i.admitted > 0:
		return &c.Refused
	case i.now.Outcome == verify.Denied:
		return nil
	case i.outcome == verify.Denied.String():
		return &c.Admitted
	case i.now.Outcome == verify.Warned:
		return &c.Warned
	}
	return nil
}

func newChange(i *image) Change {
	c := Change{
		Image:    i.name.String(),
		Client:   show.Printable(i.client.String()),
		Tags:     i.tags,
		Was:      i.outcome,
		Now:      decisions.OutcomeError,
		Requests: i.admitted + i.refused,
		Clients:  len(i.clients),
		Last:     i.last,
		image:    i,
	}
	if i.err != nil {
		c.Error = show.Printable(show.Shorten(i.err.Error(), maxTextBytes))
		return c
	}

	c.Now, c.Policy = i.now.Outcome.String(), i.now.Policy
	c.Reasons = decisions.NewReasons(i.now.Reasons, maxTextBytes)
	return c
}

// withoutParts leaves out the platforms of an image that change as the image does,
// and counts them with it: the signature is the index's.
func withoutParts(list []Change) []Change {
	at := map[asked]int{}
	for n, c := range list {
		at[asked{c.image.name, c.image.client}] = n
	}

	parts := map[asked]int{}
	whole := []Change{}
	for _, c := range list {
		listed := false
		for _, parent := range c.image.parents {
			above := asked{c.image.name.At(parent), c.image.client}
			if n, ok := at[above]; ok && list[n].Now == c.Now {
				parts[above]++
				listed = true
			}
		}
		if !listed {
			whole = append(whole, c)
		}
	}

	// Only records that no gate wrote make all of them parts of each other.
	if len(whole) == 0 && len(list) > 0 {
		return list
	}
	for n := range whole {
		whole[n].Parts = parts[asked{whole[n].image.name, whole[n].image.client}]
	}
	return whole
}

// JSON returns c as indented JSON.
func (c *Comparison) JSON() string {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(c) // a struct of strings and numbers always encodes
	return text.String()
}
