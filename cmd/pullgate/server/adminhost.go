package server

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/pullgate/pullgate/cmd/pullgate/config"
)

// onlyKnownHosts answers 421 to requests that are addressed to another name than
// the admin port's own. A page of another site can have its own name resolve to
// the port's address, and would then read the record of decisions through its
// visitor's browser (DNS rebinding); the Host header still carries that name.
func (r *reloader) onlyKnownHosts(next http.Handler) http.Handler {
	const unknown = "the admin port is not known as %.100q: ask it by its address, or list that name under " +
		"admin.hostnames\n"

	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		local, _ := req.Context().Value(http.LocalAddrContextKey).(net.Addr)
		if !isAdminHost(req.Host, local, r.current().Config.Admin) {
			w.Header().Set("X-Content-Type-Options", "nosniff")
			say(w, http.StatusMisdirectedRequest, fmt.Sprintf(unknown, req.Host))
			return
		}
		next.ServeHTTP(w, req)
	})
}

// isAdminHost reports whether a Host header names the admin port: by a loopback
// name, by the address that the request came to, by the name that the port
// listens on, or by one of admin.hostnames. The port in it does not count.
func isAdminHost(header string, local net.Addr, admin config.Admin) bool {
	host := hostOnly(header)
	if host == "" {
		return false
	}

	if ip, err := netip.ParseAddr(host); err == nil && (ip.Unmap().IsLoopback() || isLocal(ip, local)) {
		return true
	}
	return host == "localhost" ||
		host == hostOnly(admin.Listen) ||
		slices.ContainsFunc(admin.Hostnames, func(name string) bool { return host == hostOnly(name) })
}

// isLocal reports whether ip is the address of a connection's own end.
func isLocal(ip netip.Addr, local net.Addr) bool {
	tcp, ok := local.(*net.TCPAddr)
	if !ok {
		return false
	}
	own, ok := netip.AddrFromSlice(tcp.IP)
	return ok && own.Unmap() == ip.Unmap().WithZone("")
}

// hostOnly is a host without port, brackets, the root's dot and case.
func hostOnly(host string) string {
	if bare, _, err := net.SplitHostPort(host); err == nil {
		host = bare
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
