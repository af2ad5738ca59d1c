package e2e

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// gate is one pullgate process before one registry, which images call reg.test.
type gate struct {
	*process
	addr, admin string
	config      string
}

// startGate serves reg.test/** to whoever has a signature by key.
func startGate(t *testing.T, registry, key string) *gate {
	t.Helper()
	return startGateWith(t, registry, "", signedBy(key))
}

func signedBy(key string) string { return "authorities: [{name: release, key: " + key + "}]" }

// startGateWith is startGate with more said about the upstream and the policy.
func startGateWith(t *testing.T, registry, upstream, policy string) *gate {
	t.Helper()
	return startGateHost(t, "reg.test", registry, policy, upstream)
}

// startGateHost is startGateWith for an upstream of another name.
func startGateHost(t *testing.T, host, registry, policy string, upstream ...string) *gate {
	t.Helper()
	return startGateHosts(t, []string{host}, registry, policy, upstream...)
}

// startGateHosts is startGateHost for several hosts, which are all one registry.
func startGateHosts(t *testing.T, hosts []string, registry, policy string, upstream ...string) *gate {
	t.Helper()
	var upstreams, images []string
	for _, host := range hosts {
		upstreams = append(upstreams, `{host: "`+host+`", url: "http://`+registry+`"`+strings.Join(upstream, "")+`}`)
		images = append(images, `"`+host+`/**"`)
	}
	g := &gate{addr: "127.0.0.1:" + freePort(t), admin: "127.0.0.1:" + freePort(t)}
	g.config = writeFile(t, filepath.Join(t.TempDir(), "pullgate.yaml"), `
listen: `+g.addr+`
admin: {listen: "`+g.admin+`"}
log: {format: json}
drain: 5s
upstreams: [`+strings.Join(upstreams, ", ")+`]
policies:
  - name: signed
    images: [`+strings.Join(images, ", ")+`]
    `+policy+`
`)
	g.up(t)
	return g
}

func (g *gate) up(t *testing.T) {
	t.Helper()
	// One address asks for hundreds of images: that is not what is tested here.
	generous := []string{"PULLGATE_LIMITS_CLIENTMISSES=1000000"}
	g.process = start(t, generous, binary(t), "serve", "--config", g.config)
	waitHTTP(t, g.process, "http://"+g.addr+"/v2/")
}

// name is an image as a client without mirror configuration calls it.
func (g *gate) name(image string) string { return g.addr + "/reg.test/" + image }

// decided reports whether the gate has logged such a decision about an image of reg.test.
func (g *gate) decided(outcome, image string) bool { return g.decidedOn(outcome, "reg.test/"+image) }

func (g *gate) decidedOn(outcome, image string) bool {
	for line := range strings.SplitSeq(g.log.String(), "\n") {
		if strings.Contains(line, `"outcome":"`+outcome+`"`) && strings.Contains(line, `"image":"`+image+`"`) {
			return true
		}
	}
	return false
}

// willDecide is decidedOn within five seconds: a line of the log may come after the answer.
func (g *gate) willDecide(outcome, image string) bool {
	return soon(func() bool { return g.decidedOn(outcome, image) })
}

// willLog waits for a text in the log, which is written behind the answers.
func (g *gate) willLog(text string) bool {
	return soon(func() bool { return strings.Contains(g.log.String(), text) })
}

// soon waits until something is so, for half a minute.
func soon(is func() bool) bool {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if is() {
			return true
		}
	}
	return is()
}

func (g *gate) kill(t *testing.T) {
	t.Helper()
	g.stop(t, syscall.SIGKILL)
}

// gateUntil waits until the gate answers so, ten seconds at most.
func gateUntil(t *testing.T, g *gate, what string, want int) {
	t.Helper()
	status := 0
	for range 100 {
		if status, _ = get(t, g, what); status == want {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("%s is answered %d, not %d", what, status, want)
}
