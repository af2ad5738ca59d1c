package cloud

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"
)

// Every secret of these tests holds this word, so that one search finds any.
const mark = "s3cr3t"

func answer(w http.ResponseWriter, status int, format string, args ...any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, format, args...)
}

// backend is the registry behind all of the fakes.
func backend(addr string) http.HandlerFunc {
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr})
	return func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Authorization")
		r.Host = addr
		proxy.ServeHTTP(w, r)
	}
}

// takesBasic is a registry that takes one password, as ECR does: without one it
// challenges, and a wrong one is forbidden.
func takesBasic(user, password string, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		gotUser, gotPassword, shown := r.BasicAuth()
		switch {
		case !shown:
			w.Header().Set("WWW-Authenticate", `Basic realm="https://`+r.Host+`/",service="ecr.amazonaws.com"`)
			w.WriteHeader(http.StatusUnauthorized)
		case gotUser != user || gotPassword != password:
			answer(w, http.StatusForbidden, `{"errors":[{"code":"DENIED"}]}`)
		default:
			next(w, r)
		}
	}
}

// takesTokens is a registry whose token service, at path, decides by allowed.
func takesTokens(path string, allowed func(*http.Request) bool, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token := "registry-" + mark + "-" + r.Host
		switch {
		case r.URL.Path == path && !allowed(r):
			answer(w, http.StatusForbidden, `{"errors":[{"code":"DENIED"}]}`)
		case r.URL.Path == path:
			answer(w, http.StatusOK, `{"access_token":%q}`, token)
		case r.Header.Get("Authorization") != "Bearer "+token:
			w.Header().Set(
				"WWW-Authenticate",
				fmt.Sprintf(`Bearer realm="https://%s%s",service=%q`, r.Host, path, r.Host),
			)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			next(w, r)
		}
	}
}

// sts gives the keys of any role whose name is not "denied".
func sts(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	action, role := r.Form.Get("Action"), r.Form.Get("RoleArn")
	_, name, _ := strings.Cut(role, "/")
	w.Header().Set("Content-Type", "text/xml")
	if name == "denied" {
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprintf(w, `<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>`+
			`<Message>%s</Message></Error></ErrorResponse>`, "session-"+mark)
		return
	}
	_, _ = fmt.Fprintf(w, `<%[1]sResponse><%[1]sResult><Credentials><AccessKeyId>KEY%[2]s</AccessKeyId>`+
		`<SecretAccessKey>secret-%[3]s</SecretAccessKey><SessionToken>session-%[3]s</SessionToken>`+
		`<Expiration>%[4]s</Expiration></Credentials></%[1]sResult></%[1]sResponse>`,
		action, name, mark, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
}

// ecrAPI gives each caller the password of its role.
func ecrAPI(w http.ResponseWriter, r *http.Request) {
	_, rest, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=KEY")
	name, _, _ := strings.Cut(rest, "/")
	answer(w, http.StatusOK, `{"authorizationData":[{"authorizationToken":%q,"expiresAt":%d}]}`,
		base64.StdEncoding.EncodeToString([]byte("AWS:"+ecrPassword(name))), time.Now().Add(12*time.Hour).Unix())
}

func ecrPassword(role string) string { return "ecr-" + mark + "-" + role }

const tenant = "11111111-1111-1111-1111-111111111111"

// entra gives any client a token that names it.
func entra(w http.ResponseWriter, r *http.Request) {
	base := "https://" + r.Host + "/" + tenant
	switch {
	case strings.Contains(r.URL.Path, "/discovery/instance"):
		answer(w, http.StatusOK, `{"tenant_discovery_endpoint":%q,"metadata":[{"preferred_network":%q,`+
			`"preferred_cache":%[2]q,"aliases":[%[2]q]}]}`, base+"/v2.0/.well-known/openid-configuration", r.Host)
	case strings.HasSuffix(r.URL.Path, "/openid-configuration"):
		answer(w, http.StatusOK, `{"issuer":%q,"authorization_endpoint":%q,"token_endpoint":%q}`,
			base+"/v2.0", base+"/oauth2/v2.0/authorize", base+"/oauth2/v2.0/token")
	default:
		_ = r.ParseForm()
		answer(w, http.StatusOK, `{"token_type":"Bearer","expires_in":3600,"access_token":"entra-%s-%s"}`, mark,
			r.Form.Get("client_id"))
	}
}

// acr is a registry of Azure's that lets one client in. Its challenge is an honest
// one, and its token service takes what its exchange gave.
func acr(client string, next http.HandlerFunc) http.HandlerFunc {
	refresh := "refresh-" + mark + "-" + client
	tokens := takesTokens("/oauth2/token", func(r *http.Request) bool {
		_ = r.ParseForm()
		return r.Form.Get("grant_type") == "refresh_token" && r.Form.Get("refresh_token") == refresh
	}, next)

	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/oauth2/exchange" {
			tokens(w, r)
			return
		}
		_ = r.ParseForm()
		if r.Form.Get("access_token") != "entra-"+mark+"-"+client || r.Form.Get("service") != r.Host {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		answer(w, http.StatusOK, `{"refresh_token":%q}`, refresh)
	}
}

// google gives each service account a token that names it.
func google(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	var claims struct {
		Issuer string `json:"iss"`
	}
	if parts := strings.Split(r.Form.Get("assertion"), "."); len(parts) == 3 {
		payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
		_ = json.Unmarshal(payload, &claims)
	}
	name, _, _ := strings.Cut(claims.Issuer, "@")
	answer(w, http.StatusOK, `{"access_token":"google-%s-%s","expires_in":3600,"token_type":"Bearer"}`, mark, name)
}

// artifactRegistry is a registry of Google's that lets one account in.
func artifactRegistry(account string, next http.HandlerFunc) http.HandlerFunc {
	return takesTokens("/v2/token", func(r *http.Request) bool {
		user, password, ok := r.BasicAuth()
		return ok && user == "oauth2accesstoken" && password == "google-"+mark+"-"+account
	}, next)
}
