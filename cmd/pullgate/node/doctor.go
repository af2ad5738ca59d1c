package node

import (
	"context"
	"crypto/rand"
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
	Gate    string        // URL, as the node reaches it; with user and password where it wants a name
	CA      string        // PEM file of an https gate's certificate authority, or "": the system's alone
	Cert    string        // PEM file of a client certificate to show the gate, with Key; or ""
	Key     string        // PEM file
	Canary  string        // an image that exists and that the gate always refuses
	Root    string        // where the files of the node are
	Timeout time.Duration // of one pull

	image  policy.Image  // the canary
	client *http.Client  // for the gate alone
	login  *url.Userinfo // for the gate alone; nil: none
}

// Check checks what people wrote, and asks nothing yet.
func (d *Doctor) Check() error {
	if d.Gate == "" || d.Canary == "" {
		return errors.New("give --gate and --canary, or --config; an admin sets `canary: IMAGE` in the gate's " +
			"configuration, and `pullgate doctor --make-canary IMAGE` makes one")
	}
	u, err := url.Parse(d.Gate)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("--gate is no URL: write http://127.0.0.1:5000") // it may hold a password
	}
	d.login, u.User = u.User, nil
	d.Gate = strings.TrimSuffix(u.String(), "/")

	if d.image, err = imagename.Parse(d.Canary); err != nil {
		return err
	}
	if inner, ok := imagename.Through(d.image); ok && d.image.Host == u.Host {
		d.image, d.Canary = inner, inner.String() // pulled past the gate, if that is possible
	}
	d.client, err = d.newClient()
	return err
}

// newClient returns a client that trusts the authorities of the system and those
// in the file, and shows the certificate, where they are given.
func (d *Doctor) newClient() (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if d.CA != "" {
		text, err := os.ReadFile(d.CA)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool() // none here: the file alone
		}
		if !pool.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--ca: %s holds no certificate in PEM", d.CA)
		}
		config.RootCAs = pool
	}

	if d.Cert != "" || d.Key != "" {
		pair, err := tls.LoadX509KeyPair(d.Cert, d.Key)
		if err != nil {
			return nil, fmt.Errorf("--cert, --key: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}

	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = config
	return &http.Client{Transport: transport}, nil
}

// CheckGate asks the gate for the canary itself: without a refusal there, nothing
// that a runtime does would mean anything.
func (d *Doctor) CheckGate(ctx context.Context) error {
	if _, err := d.timesAsked(ctx, d.image); err != nil {
		return fmt.Errorf("the gate at %s: %w", d.Gate, err)
	}
	return nil
}

// nonce returns an image of the canary's repository that only this examination
// asks for. The gate refuses it as it does the canary, and counts it by itself,
// so that another node behind the same address counts elsewhere. No registry has
// it: that a pull of it fails proves nothing.
func (d *Doctor) nonce() policy.Image {
	return policy.Image{
		Repository: d.image.Repository,
		Reference:  policy.Reference{Tag: policy.CanaryNonce + strings.ToLower(rand.Text())},
	}
}

// timesAsked returns how often the gate was asked for an image of the canary's
// repository, this time included.
func (d *Doctor) timesAsked(ctx context.Context, image policy.Image) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	at := fmt.Sprintf("%s/v2/%s/manifests/%s", d.Gate, image.Path, image.Reference)
	at += "?ns=" + url.QueryEscape(image.Host)
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, at, nil)
	if err != nil {
		return 0, fmt.Errorf("ask for the canary: %w", err)
	}

	if d.login != nil {
		password, _ := d.login.Password()
		req.SetBasicAuth(d.login.Username(), password)
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
	if resp.StatusCode == http.StatusUnauthorized || err != nil && resp.Header.Get("Pullgate-Decision") == "" &&
		resp.StatusCode == http.StatusForbidden {
		return 0, errors.New("it wants to know who asks: give --gate https://USER:PASSWORD@…, or --cert and --key")
	}
	if err != nil || resp.StatusCode != http.StatusForbidden {
		const message = "it does not refuse %s as its canary (it answered %s): set `canary: %s` in its configuration"
		return 0, fmt.Errorf(message, d.Canary, resp.Status, d.Canary)
	}
	return n, nil
}

// Examine reads one runtime's configuration and pulls the canary through the
// runtime: first the canary itself, which must not come, then an image that only
// this examination asks for, of which the gate must know. What it cannot find out
// is a finding too.
func (d *Doctor) Examine(ctx context.Context, r Runtime) Finding {
	f := Finding{Runtime: r.name, Outcome: Unknown}
	if r.lint != nil {
		f.Advice = r.lint(d)
	}

	names := []string{""} // what stands before an image's own name
	if r.byName {         // where no file holds it, images are named through the gate
		gate, err := url.Parse(d.Gate)
		if err != nil {
			f.Says = err.Error()
			return f
		}
		names = append(names, gate.Host+"/")
	}

	says := "it pulled the canary, which the gate never serves: what runs here is not what the gate has admitted"
	image := d.Canary
	for _, through := range names {
		if through != "" {
			says = "it pulled the canary by the gate's own name: another registry answers there"
			image = through + d.image.String()
		}
		if done := d.mustNotCome(ctx, r, image, says, &f); done {
			return f
		}
	}
	for _, through := range names {
		if done := d.mustAsk(ctx, r, through, &f); done {
			return f
		}
	}

	f.Outcome, f.Says = NotAsked, "the pull failed, but the gate was not asked: admitted images cannot be "+
		"pulled through it either"
	return f
}

// mustNotCome pulls an image that no gate serves, and reports whether f says the
// last word: says, if the image came.
func (d *Doctor) mustNotCome(ctx context.Context, r Runtime, image, says string, f *Finding) (done bool) {
	pull := d.try(ctx, r, image)
	f.Command, f.Output = pull.command, pull.output

	switch {
	case pull.succeeded:
		f.Outcome, f.Says = Bypassed, says
	case pull.unusable != "":
		f.Says = pull.unusable
	default:
		return false
	}
	return true
}

// mustAsk pulls an image of this examination's own, and reports whether f says
// the last word: that the gate was asked for it by the runtime, or cannot tell.
func (d *Doctor) mustAsk(ctx context.Context, r Runtime, through string, f *Finding) (done bool) {
	image := d.nonce()
	before, err := d.timesAsked(ctx, image)
	if err != nil {
		f.Says = err.Error()
		return true
	}

	const says = "it pulled an image that does not exist: a registry that is not the gate answers to every name"
	if done := d.mustNotCome(ctx, r, through+image.String(), says, f); done {
		return true
	}

	after, err := d.timesAsked(ctx, image)
	switch {
	case err != nil:
		f.Says = err.Error()
	case after > before+1: // one more than this program's own question
		f.Outcome, f.Says = Held, "the gate refused the canary, and the pull ended there"
	default:
		return false
	}
	return true
}

// file returns the name of a node's file as this process sees it.
func (d *Doctor) file(name string) string { return filepath.Join(d.Root, name) }
