package e2e

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestNamedNodes: with nothing but what node-config prints, nodes show a password
// or a certificate, and images that keep their own names arrive, each client's own.
func TestNamedNodes(t *testing.T) {
	registry := startGGCR(t)
	for _, folder := range []string{"user", "node", "token"} {
		pushIndex(t, registry+"/"+folder+"/app:v1", 1000)
	}
	g := startIdentified(t, registry, "basic, mtls, oidc")
	login := writeFile(t, filepath.Join(t.TempDir(), "login"), strings.TrimPrefix(userName, "user:")+":"+userPassword)
	token := writeFile(t, filepath.Join(t.TempDir(), "token"), "token:"+g.token)

	config := map[string][]string{
		"skopeo":           {"podman"},
		"podman":           {"podman"},
		"containerd 1.6":   {"containerd", "--version", "1.6"},
		"containerd 2":     {"containerd"},
		"containerd 2 CRI": {"containerd"},
		"docker 29":        {"docker", "--version", "29"},
	}
	for _, c := range knownRuntimes {
		wanted, ok := config[c.name]
		if !ok {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			for way, flags := range map[string][]string{
				"user":  {"--login", login},
				"token": {"--login", token},
				"node":  {"--cert", "/etc/gate/client.cert", "--key", "/etc/gate/client.key"},
			} {
				t.Run(way, func(t *testing.T) {
					env := []string{"HOME=/var/lib"}
					if way != "node" {
						env = append(env, "REGISTRY_AUTH_FILE=/etc/pullgate/auth.json")
					}
					n := newNode(t, env, c.tools...)
					n.write(t, "/etc/gate/ca.crt", g.ca.pem)
					n.write(t, "/etc/gate/client.cert", g.nodeCert)
					n.write(t, "/etc/gate/client.key", g.nodeKey)
					asked := slices.Concat(wanted, flags, []string{
						"--gate", "https://" + g.addr, "--upstream", "reg.test", "--ca", "/etc/gate/ca.crt",
					})
					c.start(t, n, n.configure(t, asked...))

					command := func(folder string) []string {
						pull := c.pull(nil, "reg.test/"+folder+"/app:v1")
						if c.name == "podman" {
							pull = []string{
								"podman", "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs",
								"--events-backend", "file", "pull", "reg.test/" + folder + "/app:v1",
							}
						}
						return pull
					}
					if out, err := n.run(t, command(way)...); err != nil {
						t.Errorf("its own: %v\n%s", err, out)
					}
					other := map[string]string{"user": "node", "node": "token", "token": "user"}[way]
					out, err := n.run(t, command(other)...)
					if err == nil || !c.silent && !strings.Contains(out, "defaultAction") {
						t.Errorf("another's: %v\n%s", err, out)
					}
				})
			}
		})
	}
	if log := g.log.String(); strings.Contains(log, userPassword) || strings.Contains(log, g.token[:60]) {
		t.Error("a secret is in the log")
	}
}
