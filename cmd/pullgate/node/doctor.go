package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pullgate/pullgate/cmd/pullgate/imagename"
	"github.com/pullgate/pullgate/policy"
)

// Outcome is what a doctor found out about one runtime.
type Outcome string

// The outcomes, as they are printed.
const (
	Held     Outcome = "held"      // refused by the gate
	Bypassed Outcome = "BYPASSED"  // the pull succeeded: something else served it
	NotAsked Outcome = "NOT ASKED" // the pull failed, and the gate knows nothing of it
	Unknown  Outcome = "UNKNOWN"   // the runtime could not be tried
)

// Finding is what came of one runtime. It is what doctor prints as JSON.
type Finding struct {
	Runtime string   `json:"runtime"`
	Outcome Outcome  `json:"outcome"`
	Says    string   `json:"says"`              // what it means
	Advice  []string `json:"advice,omitempty"`  // what its configuration lacks
	Command string   `json:"command,omitempty"` // what was run
	Output  string   `json:"output,omitempty"`  // the end of what it printed
}

// askTime bounds one question to the gate.
const askTime = 20 * time.Second

// Doctor is one examination of one node. Check must be called before Examine.
type Doctor struct {
	Gate    string        // URL, as the node reaches it
	CA      string        // PEM file of an https gate's certificate authority, or "": the system's alone
	Canary  string        // an image that exists and that the gate always refuses
	Root    string        // where the files of the node are
	Timeout time.Duration // of one pull

	image  policy.Image // the canary
	client *http.Client // for the gate alone
}

// Check checks what people wrote, and asks nothing yet.
func (d *Doctor) Check() error {
	if d.Gate == "" || d.Canary == "" {
		return errors.New("give --gate and --canary, or --config; an admin sets `canary: IMAGE` in the gate's " +
			"configuration, and `pullgate doctor --make-canary IMAGE` makes one")
	}
	u, err := url.Parse(d.Gate)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("--gate %q is no URL: write http://127.0.0.1:5000", d.Gate)
	}
	d.Gate = strings.TrimSuffix(d.Gate, "/")

	if d.image, err = imagename.Parse(d.Canary); err != nil {
		return err
	}
	if inner, ok := imagename.Through(d.image); ok && d.image.Host == u.Host {
		d.image, d.Canary = inner, inner.String() // pulled past the gate, if that is possible
	}
	if d.client, err = newClient(d.CA); err != nil {
		return fmt.Errorf("--ca: %w", err)
	}
	return nil
}

// newClient returns a client that trusts the authorities of the system and those
// in a PEM file, if one is given.
func newClient(file string) (*http.Client, error) {
	if file == "" {
		return http.DefaultClient, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}

	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // none here: the file alone
	}
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", file)
	}

	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	return &http.Client{Transport: transport}, nil
}

// CheckGate asks the gate for the canary itself: without a refusal there, nothing
// that a runtime does would mean anything.
func (d *Doctor) CheckGate(ctx context.Context) error {
	if _, err := d.timesAsked(ctx); err != nil {
		return fmt.Errorf("the gate at %s: %w", d.Gate, err)
	}
	return nil
}

// timesAsked returns how often this node has asked for the canary, this time
// included.
func (d *Doctor) timesAsked(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	at := fmt.Sprintf("%s/v2/%s/manifests/%s", d.Gate, d.image.Path, d.image.Reference)
	at += "?ns=" + url.QueryEscape(d.image.Host)
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, at, nil)
	if err != nil {
		return 0, fmt.Errorf("ask for the canary: %w", err)
	}

	resp, err := d.client.Do(req)
	var untrusted *tls.CertificateVerificationError
	switch {
	case errors.As(err, &untrusted) && d.CA == "":
		return 0, fmt.Errorf("ask for the canary: %w: name the gate's certificate authority with --ca", err)
	case err != nil:
		return 0, fmt.Errorf("ask for the canary: %w", err)
	}
	_ = resp.Body.Close()

	n, err := strconv.Atoi(resp.Header.Get("Pullgate-Canary"))
	if err != nil || resp.StatusCode != http.StatusForbidden {
		const message = "it does not refuse %s as its canary (it answered %s): set `canary: %s` in its configuration"
		return 0, fmt.Errorf(message, d.Canary, resp.Status, d.Canary)
	}
	return n, nil
}

// Examine reads one runtime's configuration and pulls the canary through the
// runtime. What it cannot find out is a finding too.
func (d *Doctor) Examine(ctx context.Context, r Runtime) Finding {
	f := Finding{Runtime: r.name, Outcome: Unknown}
	if r.lint != nil {
		f.Advice = r.lint(d)
	}
	before, err := d.timesAsked(ctx)
	if err != nil {
		f.Says = err.Error()
		return f
	}

	pull := d.try(ctx, r, d.Canary)
	f.Command, f.Output = pull.command, pull.output
	switch {
	case pull.succeeded:
		f.Outcome, f.Says = Bypassed, "it pulled the canary, which the gate never serves: what runs here is not "+
			"what the gate has admitted"
		return f
	case pull.unusable != "":
		f.Says = pull.unusable
		return f
	}

	if r.byName { // where no file holds it, images are named through the gate
		gate, err := url.Parse(d.Gate)
		if err != nil {
			f.Says = err.Error()
			return f
		}
		pull := d.try(ctx, r, gate.Host+"/"+d.image.String())
		f.Command, f.Output = pull.command, pull.output
		if pull.succeeded {
			f.Outcome, f.Says = Bypassed, "it pulled the canary by the gate's own name: another registry answers there"
			return f
		}
	}

	after, err := d.timesAsked(ctx)
	switch {
	case err != nil:
		f.Says = err.Error()
	case after > before+1: // one more than this program's own question
		f.Outcome, f.Says = Held, "the gate refused the canary, and the pull ended there"
	default:
		f.Outcome, f.Says = NotAsked, "the pull failed, but the gate was not asked: admitted images cannot be "+
			"pulled through it either"
	}
	return f
}

// file returns the name of a node's file as this process sees it.
func (d *Doctor) file(name string) string { return filepath.Join(d.Root, name) }
