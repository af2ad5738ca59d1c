package proxy_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/test/hostile"
)

// Every 403, 502 and 503 ends with the decision's id and the admin's own
// sentence: most clients print nothing but the message. A registry's refusal is
// no decision, and what is no refusal needs no help.
func TestRefusalEnd(t *testing.T) {
	t.Parallel()
	const none, help, idAndHelp = "nothing", "help", "id and help"
	for name, c := range map[string]struct {
		path   func(r *rig) string
		status int
		ends   string
	}{
		"denied": {
			func(r *rig) string { return manifests("prod/app", r.reg.PushImage("prod/app", "v1").Digest) },
			http.StatusForbidden, idAndHelp,
		},
		"closed": {at("closed/app", "v1"), http.StatusForbidden, idAndHelp},
		"unknown": {
			func(r *rig) string { return blobs("prod/app", r.signed("v1").Layers[0]) },
			http.StatusForbidden, idAndHelp,
		},
		"closed tags": {list("closed/app"), http.StatusForbidden, idAndHelp},
		"upstream's":  {answering(http.StatusForbidden), http.StatusForbidden, help},
		"wrong bytes": {
			func(r *rig) string {
				image := r.signed("v1")
				r.reg.On(hostile.OtherBytes(hostile.ImageType, []byte("{}")).At(hostile.For(image.Digest)))
				return manifests("prod/app", image.Digest)
			},
			http.StatusBadGateway, idAndHelp,
		},
		"could not tell": {answering(http.StatusInternalServerError), http.StatusServiceUnavailable, idAndHelp},
		"absent":         {at("prod/app", "absent"), http.StatusNotFound, none},
		"limited":        {answering(http.StatusTooManyRequests), http.StatusTooManyRequests, none},
		"malformed":      {at("prod/app", "sha256:x"), http.StatusBadRequest, none},
	} {
		for _, sentence := range []string{"", "Ask #platform."} {
			t.Run(fmt.Sprintf("%s/%q", name, sentence), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, func(o *options) { o.help = sentence })
				path := c.path(r)
				g := r.get(path)
				if g.status != c.status {
					t.Fatalf("status %d, want %d: %s", g.status, c.status, g.body)
				}
				var said refusal
				if err := json.Unmarshal(g.body, &said); err != nil {
					t.Fatal(err)
				}

				id, message, end := g.header.Get("Pullgate-Decision"), said.Errors[0].Message, ""
				if c.ends == idAndHelp {
					end = " (decision " + id + ")"
				}
				if c.ends != none && sentence != "" {
					end += " " + sentence
				}
				if !strings.HasSuffix(message, end) || (id != "") != (c.ends == idAndHelp) {
					t.Errorf("the id is %q, and the message %q does not end with %q", id, message, end)
				}
				if rest := strings.TrimSuffix(message, end); strings.Contains(rest, "(decision") ||
					sentence != "" && strings.Contains(rest, sentence) {
					t.Errorf("said twice, or where it does not belong: %q", message)
				}
				if h := r.head(path); h.status != c.status || h.length != g.length {
					t.Errorf("HEAD: %d with %d bytes, GET has %d", h.status, h.length, g.length)
				}
			})
		}
	}
}

// at, list and answering make paths for TestRefusalEnd.
func at(repo, reference string) func(*rig) string {
	return func(*rig) string { return manifests(repo, reference) }
}

func list(repo string) func(*rig) string {
	return func(*rig) string { return "/v2/reg.example/" + repo + "/tags/list" }
}

func answering(status int) func(*rig) string {
	return func(r *rig) string {
		r.reg.On(hostile.Status(status).At(hostile.For("v1")))
		return manifests("prod/app", "v1")
	}
}

// Some clients print a refusal's detail behind its message: it is short, however
// much there is to say, and the message says it all.
func TestRefusalDetail(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var authorities []string
	for i := range 20 {
		file := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(file, publicPEM(t, newKey(t)), 0o600); err != nil {
			t.Fatal(err)
		}
		authorities = append(authorities, fmt.Sprintf("{name: %s%d, key: %q}", strings.Repeat("n", 100), i, file))
	}
	r := newRig(t, withPolicies(
		`[{name: prod, images: ["reg.example/prod/**"], authorities: [`+strings.Join(authorities, ", ")+"]}]",
	))
	image := r.reg.PushImage("prod/app", "v1")
	r.reg.Sign("prod/app", image.Digest, r.key)

	e := r.get(manifests("prod/app", "v1")).refused(t, http.StatusForbidden, "DENIED").Errors[0]
	if len(e.Detail.Reasons) == 0 || len(e.Detail.Reasons) > 4 {
		t.Errorf("%d reasons", len(e.Detail.Reasons))
	}
	for _, text := range e.Detail.Reasons {
		if len(text) > 120+len("…") {
			t.Errorf("%d bytes: %s", len(text), text)
		}
	}
	if n := strings.Count(e.Message, "another key"); n <= len(e.Detail.Reasons) {
		t.Errorf("the message names %d authorities", n)
	}
}
