package node

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

const (
	dockerHosts  = "/etc/docker/certs.d"
	dockerDaemon = "/etc/docker/daemon.json"
)

// dockerSetup has no file that holds before Docker 29: registry-mirrors are passed
// over on any error. Since then its containerd image store reads hosts.toml.
func dockerSetup(p Plan) (Setup, error) {
	major, _, err := parseVersion(p.Version, "20.10")
	if err != nil {
		return Setup{}, err
	}
	if major >= 29 {
		return dockerHostsSetup(p), nil
	}

	var s Setup
	host := p.Gate.Hostname()
	switch {
	case p.insecure() && host != "localhost" && !strings.HasPrefix(host, "127."):
		text := fmt.Sprintf("{\n  \"insecure-registries\": [%q]\n}\n", p.Gate.Host)
		s.Files = append(s.Files, File{Path: dockerDaemon, Text: text})
	case p.CA != "":
		s.Notes = append(s.Notes, "let Docker trust the gate: "+p.trustBelow(dockerHosts))
	}

	s.Notes = append(s.Notes, p.dockerIdentity()...)
	s.Notes = append(s.Notes,
		"registry-mirrors do NOT hold: what a mirror refuses, Docker pulls from the registry without a word",
		fmt.Sprintf("name images through the gate instead: docker pull %s/%s/team/app:v1", p.Gate.Host, p.Upstreams[0]),
		"close the node's way to registries, so that other names lead nowhere",
		"Docker pulls an image that was removed again by its digest from manifests it has kept: prune what was revoked",
		"Docker 29 can be held by files: --version 29 prints them",
	)
	return s, nil
}

func dockerHostsSetup(p Plan) Setup {
	s := Setup{Files: hostsFiles(p, dockerHosts)}
	s.Notes = []string{
		"only Docker's containerd image store reads these files. It is the default of a new installation of Docker " +
			"29; `docker info` then has a driver-type io.containerd.snapshotter. With another store every pull " +
			"goes to the registry",
		"remove registry-mirrors from " + dockerDaemon + ": they do NOT hold",
		"registries that are not listed are pulled from directly: list every one that images come from, or close " +
			"the node's way to the others",
	}
	return s
}

// lintDocker reads daemon.json, and hosts.toml, which Docker 29 reads. A mirror
// that refuses is taken for one that failed.
func lintDocker(d *Doctor) []string {
	advice, _ := lintHosts(d, dockerHosts)
	text, err := os.ReadFile(d.file(dockerDaemon))
	if err != nil {
		return advice // nothing configured: nothing wrong
	}

	var daemon struct {
		Mirrors []string `json:"registry-mirrors"`
	}
	if err := json.Unmarshal(text, &daemon); err != nil {
		return append(advice, d.file(dockerDaemon)+" is not valid JSON")
	}
	if len(daemon.Mirrors) > 0 {
		advice = append(advice, "registry-mirrors do not hold: what a mirror refuses, Docker pulls from the "+
			"registry; name images through the gate and close the node's way to registries")
	}
	return advice
}
