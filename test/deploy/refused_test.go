package deploy

import (
	"strings"
	"testing"
)

// TestChartRefuses: a wrong value is an error that names it, not a manifest.
func TestChartRefuses(t *testing.T) {
	const pass = "config: {upstreams: [{host: ghcr.io}]}\n"
	if _, err := render(t, pass); err != nil {
		t.Fatal(err)
	}

	const held = "kind: daemonset\ndaemonset: {hold: {enabled: true, registries: [ghcr.io, docker.io]}}\n"
	for name, row := range map[string]struct{ values, says string }{
		"mistyped value":            {"replica: 3", "replica"},
		"mistyped value inside":     {"deployment: {replica: 3}", "replica"},
		"unknown kind":              {"kind: statefulset", "kind"},
		"replicas as text":          {"deployment: {replicas: three}", "replicas"},
		"mistyped setting":          {"config: {upstream: []}", "upstream"},
		"mistyped setting inside":   {"config: {limits: {manifestByte: 1MiB}}", "manifestByte"},
		"setting of another type":   {"config: {limits: {signatures: many}}", "signatures"},
		"duration without a unit":   {"config: {drain: 30}", "drain"},
		"the chart's own setting":   {"config: {listen: 0.0.0.0:80}", "listen"},
		"the chart's own folder":    {"config: {state: {path: /tmp}}", "state"},
		"policy file's name":        {"policies: {ours.txt: x}", "ours.txt"},
		"policies twice":            {"policies: {a.yaml: x}\nexistingPolicies: b", "existingPolicies"},
		"privileged port":           {"ports: {pulls: 80}", "pulls"},
		"tag with a blank":          {"image: {tag: 'a b'}", "tag"},
		"digest that is none":       {"image: {digest: latest}", "digest"},
		"database of another kind":  {"database: {url: 'mysql://a'}", "url"},
		"password without database": {"database: {secretName: a}", "secretName"},
		"namespace without secret":  {"database: {url: 'postgres://a', namespaceKey: b}", "namespaceKey"},
		"authority without TLS":     {"tls: {clientCAKey: ca.crt}", "clientCAKey"},
		"claim of several replicas": {"state: {type: persistentVolumeClaim}", "replicas"},
		"folder shared by replicas": {"state: {type: hostPath}", "hostPath"},
		"claim of a daemonset":      {"kind: daemonset\nstate: {type: ephemeral}", "daemonset"},
		"policy for host network":   {"kind: daemonset\nnetworkPolicy: {enabled: true}", "networkPolicy"},
		"scrape of loopback":        {"kind: daemonset\nmetrics: {serviceMonitor: {enabled: true}}", "loopback"},
		"no account":                {"serviceAccount: {create: false}", "serviceAccount.name"},
		"hold without nodes":        {"daemonset: {hold: {enabled: true, registries: [a.example]}}", "daemonset"},
		"hold of nothing":           {"kind: daemonset\ndaemonset: {hold: {enabled: true}}", "registries"},
		"gate pulls itself":         {held, "gate's own image"},
		"gate pulls itself, Hub":    {held + "image: {repository: acme/pullgate}", "docker.io"},
		"gate pulls itself, Hub's other name": {
			held + "image: {repository: index.docker.io/acme/pullgate}", "docker.io",
		},
		"gate pulls itself, held by another name": {
			"kind: daemonset\ndaemonset: {hold: {enabled: true, registries: [Registry-1.docker.io]}}\n" +
				"image: {repository: acme/pullgate}", "docker.io",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := render(t, row.values)
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), row.says) {
				t.Errorf("does not name %q: %v", row.says, err)
			}
		})
	}

	t.Run("image that is on the node already", func(t *testing.T) {
		if _, err := render(t, held+"image: {pullPolicy: Never}"); err != nil {
			t.Error(err)
		}
	})
}
