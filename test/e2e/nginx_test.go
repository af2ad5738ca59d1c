package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The addresses of a proxy, of a client that a policy is for, and of another.
const (
	proxyAddr  = "127.0.0.9"
	clientAddr = "127.0.0.5"
	otherAddr  = "127.0.0.6"
)

// startNginx runs Debian's nginx with a configuration in which PORT and GATE are
// filled in, and returns where it listens.
func startNginx(t *testing.T, gate, config string) string {
	t.Helper()
	need(t, "/usr/sbin/nginx")
	const module = "/usr/lib/nginx/modules/ngx_stream_module.so"
	if _, err := os.Stat(module); err != nil {
		lacking(t, "it needs nginx's stream module; .ci/install brings it")
	}
	dir := t.TempDir()
	addr := "127.0.0.1:" + freePort(t)
	file := writeFile(
		t,
		filepath.Join(dir, "nginx.conf"),
		"load_module "+module+";\ndaemon off;\nmaster_process off;\n"+
			"error_log stderr;\npid "+dir+"/pid;\nevents {}\n"+
			strings.NewReplacer("PORT", addr, "GATE", gate, "DIR", dir).Replace(config),
	)
	p := start(t, nil, "/usr/sbin/nginx", "-p", dir, "-c", file)
	for range 500 {
		if conn, err := net.Dial("tcp", addr); err == nil {
			_ = conn.Close()
			return addr
		}
		select {
		case <-p.done:
			t.Fatalf("nginx ended: %s", p.log)
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Fatalf("nginx does not listen: %s", p.log)
	return ""
}

const nginxHTTP = `
http {
	access_log off;
	client_body_temp_path DIR/body; proxy_temp_path DIR/proxy; fastcgi_temp_path DIR/f;
	uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;
	server {
		listen PORT;
		location / {
			proxy_pass http://GATE;
			proxy_bind 127.0.0.9;
			proxy_set_header Host $http_host;
			proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
		}
	}
}
`

const nginxStream = `
stream {
	server {
		listen PORT;
		proxy_pass GATE;
		proxy_bind 127.0.0.9;
		proxy_protocol on;
	}
}
`

// statusFrom asks at addr from a source address.
func statusFrom(t *testing.T, source, addr string, forwarded ...string) int {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	transport := &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}
	r, err := http.NewRequest(http.MethodGet, "http://"+addr+"/v2/reg.test/app/manifests/v1", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header["X-Forwarded-For"] = forwarded
	answer, err := transport.RoundTrip(r)
	if err != nil {
		t.Logf("from %s: %v", source, err)
		return 0
	}
	_ = answer.Body.Close()
	return answer.StatusCode
}

// TestBehindNginx: a real proxy names the client by a header or by the PROXY
// protocol, and no one else can.
func TestBehindNginx(t *testing.T) {
	registry := startGGCR(t)
	pushIndex(t, registry+"/app:v1", 1000)
	for name, row := range map[string]struct{ nginx, more string }{
		"X-Forwarded-For": {nginxHTTP, ""},
		"PROXY protocol":  {nginxStream, ", proxyProtocol: true"},
	} {
		t.Run(name, func(t *testing.T) {
			g := &gate{addr: "127.0.0.1:" + freePort(t), admin: "127.0.0.1:" + freePort(t)}
			g.config = writeFile(t, filepath.Join(t.TempDir(), "pullgate.yaml"), `
listen: `+g.addr+`
admin: {listen: "`+g.admin+`"}
log: {format: json}
clients: {trustedProxies: ["`+proxyAddr+`"]`+row.more+`}
upstreams: [{host: reg.test, url: "http://`+registry+`"}]
policies:
  - {name: one, images: ["reg.test/**"], clients: ["`+clientAddr+`"], static: allow}
`)
			g.process = start(t, nil, binary(t), "serve", "--config", g.config)
			waitHTTP(t, g.process, "http://"+g.admin+"/readyz")
			nginx := startNginx(t, g.addr, row.nginx)

			for _, c := range []struct {
				what, source, addr string
				forwarded          []string
				want               int
			}{
				{"the client", clientAddr, nginx, nil, http.StatusOK},
				{"another", otherAddr, nginx, nil, http.StatusForbidden},
				{"another, spoofing", otherAddr, nginx, []string{clientAddr}, http.StatusForbidden},
				{"another, spoofing twice", otherAddr, nginx, []string{clientAddr, clientAddr}, http.StatusForbidden},
				{"the client, spoofing", clientAddr, nginx, []string{otherAddr}, http.StatusOK},
				{"past the proxy", otherAddr, g.addr, nil, http.StatusForbidden},
				{"past the proxy, spoofing", otherAddr, g.addr, []string{clientAddr}, http.StatusForbidden},
			} {
				if got := statusFrom(t, c.source, c.addr, c.forwarded...); got != c.want {
					t.Errorf("%s: status %d, want %d", c.what, got, c.want)
				}
			}

			line := spoofProxyHeader(t, otherAddr, g.addr)
			if !strings.Contains(line, "400 Bad Request") {
				t.Errorf("a PROXY header from outside is answered %q", line)
			}
			if !g.willLog(`"client":"`+clientAddr+`"`) || strings.Contains(g.log.String(), `"client":"`+proxyAddr+`"`) {
				t.Errorf("the log names the proxy, or not the client: %s", tail(g.log.String(), 3000))
			}
			out, _ := run(t, binary(t), "explain", "reg.test/app:v1", "--admin", "http://"+g.admin, "--json")
			if !strings.Contains(out, `"client":"`+clientAddr+`"`) {
				t.Errorf("the record does not name the client: %s", out)
			}
		})
	}
}

// spoofProxyHeader sends a PROXY header that no proxy has written, and returns the
// first line of the answer.
func spoofProxyHeader(t *testing.T, source, addr string) string {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	conn, err := dialer.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	fmt.Fprintf(
		conn,
		"PROXY TCP4 %s 127.0.0.1 4711 5000\r\nGET /v2/reg.test/app/manifests/v1 HTTP/1.1\r\nHost: x\r\n\r\n",
		clientAddr,
	)
	line, _ := bufio.NewReader(conn).ReadString('\n')
	return line
}
