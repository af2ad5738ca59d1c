package config

// defaults holds every scalar, so that PULLGATE_* reaches each of them.
var defaults = []struct {
	key   string
	value any
}{
	{"listen", "127.0.0.1:5000"},
	{"admin::listen", "127.0.0.1:5001"},
	{"mode", "enforce"},
	{"tls::certFile", ""},
	{"tls::keyFile", ""},
	{"tls::clientCAFile", ""},
	{"clients::auth", "none"},
	{"clients::htpasswdFile", ""},
	{"clients::help", ""},
	{"log::level", "info"},
	{"log::format", "text"},
	{"drain", "30s"},
	{"defaultUpstream", ""},
	{"defaultAction", "deny"},
	{"canary", ""},
	{"verdicts::ttl", "1h"},
	{"verdicts::denyTTL", "30s"},
	{"verdicts::maxEntries", 1_000_000},
	{"verdicts::staleIfError", "24h"},
	{"manifests::maxBytes", "256MiB"},
	{"manifests::tagTTL", "0s"},
	{"state::path", "./pullgate-state"},
	{"state::maxBytes", "1GiB"},
	{"decisions::to", "file"},
	{"decisions::file", ""},
	{"decisions::maxBytes", "100MiB"},
	{"decisions::keep", 5},
	{"limits::manifestBytes", "4MiB"},
	{"limits::descriptors", 2000},
	{"limits::payloadBytes", "8MiB"},
	{"limits::verdictBytes", "16MiB"},
	{"limits::signatures", 64},
	{"limits::verdictsInFlight", 64},
	{"limits::verifyTimeout", "15s"},
	{"limits::clientMisses", 600},
}
