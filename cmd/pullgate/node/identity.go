package node

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
)

// Identity is how a node shows the gate who it is: by a certificate, by a user and
// a password (or a token in its place), by both, or, when zero, by nothing.
type Identity struct {
	Cert, Key string // PEM files, as the node has them
	Login     string // USER:PASSWORD
}

// clientAuth is where Podman, Buildah, Skopeo and CRI-O are told to look for
// passwords.
const clientAuth = "/etc/pullgate/auth.json"

// check says what of it the gate would not take, before a node is told to show it.
func (i Identity) check(scheme, hostname string) error {
	secure := scheme == "https"
	switch {
	case (i.Cert == "") != (i.Key == ""):
		return errors.New("--cert and --key go together")
	case i.Cert != "" && (!secure || !filepath.IsAbs(i.Cert) || !filepath.IsAbs(i.Key)):
		return errors.New("--cert and --key are for an https gate, and must be the files' absolute paths on the node")
	}
	if i.Login == "" {
		return nil
	}

	user, password, found := strings.Cut(i.Login, ":")
	if !found || user == "" || password == "" || strings.ContainsAny(i.Login, "\r\n\x00") {
		return errors.New("the --login file must hold one line, USER:PASSWORD; a token is the password of any user")
	}
	if ip := net.ParseIP(hostname); !secure && hostname != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return errors.New("--login is for an https gate, or one on the node itself: " +
			"the gate takes no password that others could have read")
	}
	return nil
}

func (i Identity) basic() string { return base64.StdEncoding.EncodeToString([]byte(i.Login)) }

// hosts is what hosts.toml says of it, below the gate's [host].
func (p Plan) hostsIdentity() string {
	var b strings.Builder
	if p.Cert != "" {
		fmt.Fprintf(&b, "  client = [[%q, %q]]\n", p.Cert, p.Key)
	}
	if p.Login != "" {
		fmt.Fprintf(&b, "  [host.%q.header]\n    Authorization = %q\n", p.Gate, "Basic "+p.basic())
	}
	return b.String()
}

// authFile is what containers/image reads passwords from.
func (p Plan) authFile() []File {
	if p.Login == "" {
		return nil
	}
	text, err := json.MarshalIndent(map[string]any{
		"auths": map[string]any{p.Gate.Host: map[string]string{"auth": p.basic()}},
	}, "", "  ")
	if err != nil {
		panic(err) // strings are always JSON
	}
	return []File{{Path: clientAuth, Text: string(text) + "\n", Secret: true}}
}

// certificateBelow is the command for runtimes that look for a client's
// certificate in a folder named after the registry.
func (p Plan) certificateBelow(dir string) string {
	dir += "/" + p.Gate.Host
	return fmt.Sprintf(
		"mkdir -p %s && ln -s %s %s/client.cert && ln -s %s %s/client.key",
		dir, p.Cert, dir, p.Key, dir,
	)
}

// dockerIdentity is what Docker is told of it: it takes no password from a file
// that node-config could write without taking others out of it.
func (p Plan) dockerIdentity() []string {
	var notes []string
	if p.Cert != "" {
		notes = append(notes, "let Docker show the certificate to the gate: "+p.certificateBelow(dockerHosts))
	}
	if p.Login != "" {
		notes = append(notes, "let Docker show the password to the gate, for images that are named through it: "+
			"docker login "+p.Gate.Host)
	}
	return notes
}
