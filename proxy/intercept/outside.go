package intercept

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"time"

	"github.com/pullgate/pullgate/policy"
)

// outside answers what runtimes send to their proxy: CONNECT, and plain requests
// with a whole URL.
func (s *Server) outside(w http.ResponseWriter, r *http.Request) {
	if s.circled(r) {
		s.count("refused")
		refuse(w, http.StatusLoopDetected, "the gate has itself for its proxy: take it out of the gate's HTTPS_PROXY")
		return
	}
	client, err := s.who(r)
	if err != nil {
		s.count("refused")
		w.Header().Set("Proxy-Authenticate", `Basic realm="pullgate"`)
		refuse(w, http.StatusProxyAuthRequired, err.Error())
		return
	}

	switch {
	case r.Method == http.MethodConnect:
		s.connect(w, r, client)
	case r.URL.IsAbs() && r.URL.Scheme == "http" && r.URL.User == nil:
		s.plain(w, r, client)
	default:
		s.count("refused")
		refuse(w, http.StatusBadRequest, "this is the port of a proxy: have the runtime use it as HTTPS_PROXY, "+
			"or pull from the gate's own port")
	}
}

// who is the client by the credentials that it shows its proxy; nil where clients
// are known by address. Those that it shows the registry are not looked at.
func (s *Server) who(r *http.Request) (*policy.Client, error) {
	authenticate := s.config.Rules().Authenticate
	if authenticate == nil {
		return nil, nil
	}

	shown := r.Clone(r.Context())
	shown.Header.Del("Authorization")
	for _, v := range r.Header.Values("Proxy-Authorization") {
		shown.Header.Add("Authorization", v)
	}
	client, err := authenticate(shown)
	if err != nil {
		return nil, err
	}
	return &client, nil
}

// circled reports a request that this gate has sent itself (RFC 9110, section
// 7.6.3: Via is what loops are found by).
func (s *Server) circled(r *http.Request) bool {
	for _, v := range r.Header.Values("Via") {
		if s.config.Via != "" && strings.Contains(v, s.config.Via) {
			return true
		}
	}
	return false
}

// connect answers CONNECT: an upstream's host is served here, a tunnel's is
// connected, all else is refused.
func (s *Server) connect(w http.ResponseWriter, r *http.Request, client *policy.Client) {
	target, err := ParseTarget(r.Host, "")
	if err != nil || target.Port == "" || r.RequestURI != r.Host {
		s.refuseTarget(w, r, http.StatusBadRequest, "CONNECT "+r.Host+": "+ErrTarget.Error())
		return
	}

	rules := s.config.Rules()
	_, serve := rules.served(target)
	if !serve && !rules.tunnelled(target, defaultPort) {
		s.refuseTarget(w, r, http.StatusForbidden, notServed(target))
		return
	}
	if serve {
		conn, err := hijack(w)
		if err != nil {
			s.count("failed")
			return
		}
		s.count("served")
		if !s.taken.give(&intercepted{Conn: conn, target: target, client: client}) {
			_ = conn.Close()
		}
		return
	}
	s.open(w, r, target)
}

func notServed(t Target) string {
	return "this gate does not lead to " + t.String() + ": it is neither an upstream nor listed under intercept.tunnel"
}

func (s *Server) refuseTarget(w http.ResponseWriter, r *http.Request, status int, message string) {
	s.count("refused")
	s.config.Log.Warn("interception refused", "target", r.Host, "client", r.RemoteAddr, "error", message)
	refuse(w, status, message)
}

// hijack takes over a connection whose client was told to go on.
func hijack(w http.ResponseWriter) (net.Conn, error) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	if buffered.Reader.Buffered() > 0 { // it did not wait for the answer
		_ = conn.Close()
		return nil, errors.New("bytes came before the answer to CONNECT")
	}
	err = conn.SetDeadline(time.Time{})
	if err == nil {
		_, err = conn.Write([]byte("HTTP/1.1 200 Connection established\r\n\r\n"))
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// plain answers a request with a whole http URL: by the corridor where the upstream
// is one that is configured with http, and by its host where a tunnel leads there.
func (s *Server) plain(w http.ResponseWriter, r *http.Request, client *policy.Client) {
	target, err := ParseTarget(r.URL.Host, "80")
	if err != nil || !strings.EqualFold(r.Host, r.URL.Host) {
		s.refuseTarget(w, r, http.StatusBadRequest, "http://"+r.URL.Host+": "+ErrTarget.Error())
		return
	}

	rules := s.config.Rules()
	if familiar, ok := rules.served(target); ok {
		s.count("served")
		inner := r.Clone(r.Context())
		inner.Header.Del("Proxy-Authorization")
		inner.URL.Scheme, inner.URL.Host = "", ""
		s.config.Corridor(w, inner, familiar, client)
		return
	}
	if !rules.tunnelled(target, "80") {
		s.refuseTarget(w, r, http.StatusForbidden, notServed(target))
		return
	}

	s.count("tunnelled")
	onward := &httputil.ReverseProxy{
		Rewrite:   func(p *httputil.ProxyRequest) { p.Out.Header.Del("Proxy-Authorization") },
		Transport: &http.Transport{DialContext: s.dial, DisableKeepAlives: true, ResponseHeaderTimeout: tunnelIdle},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			s.config.Log.Debug("tunnel", "target", target.String(), "error", err)
			refuse(w, http.StatusBadGateway, target.String()+" does not answer")
		},
	}
	onward.ServeHTTP(w, r)
}

// refuse answers as a registry does, since it is what clients read aloud.
func refuse(w http.ResponseWriter, status int, message string) {
	codes := map[int]string{http.StatusForbidden: "DENIED", http.StatusProxyAuthRequired: "UNAUTHORIZED"}
	code, ok := codes[status]
	if !ok {
		code = "UNSUPPORTED"
	}
	body, err := json.Marshal(map[string]any{"errors": []map[string]string{{"code": code, "message": message}}})
	if err != nil {
		body = []byte(`{}`)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
