package credentials

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	ecrRegistry = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
	ecrAPI      = "api.ecr.eu-west-1.amazonaws.com"
	stsAPI      = "sts.eu-west-1.amazonaws.com"
	pullRole    = "arn:aws:iam::123456789012:role/pull"
	podRole     = "arn:aws:iam::999999999999:role/pod"
)

// ecrAnswer is an answer of GetAuthorizationToken.
func ecrAnswer(password string, until time.Time) string {
	return fmt.Sprintf(`{"authorizationData":[{"authorizationToken":%q,"expiresAt":%d.5,"proxyEndpoint":"https://x"}]}`,
		base64.StdEncoding.EncodeToString([]byte("AWS:"+password)), until.Unix())
}

// ecrPasswords answers with a password for each caller's access key.
func ecrPasswords(now func() time.Time) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, rest, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
		key, _, _ := strings.Cut(rest, "/")
		reply(200, ecrAnswer("pass-"+mark+"-of-"+key, now().Add(12*time.Hour)))(w, r)
	}
}

// stsRoles gives keys for any role: the access key is the role's name.
func stsRoles(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	action, role := r.Form.Get("Action"), r.Form.Get("RoleArn")
	_, name, _ := strings.Cut(role, "/")
	w.Header().Set("Content-Type", "text/xml")
	_, _ = fmt.Fprintf(w, `<%[1]sResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><%[1]sResult><Credentials>`+
		`<AccessKeyId>KEY%[2]s</AccessKeyId><SecretAccessKey>secret-%[3]s</SecretAccessKey>`+
		`<SessionToken>session-%[3]s</SessionToken><Expiration>%[4]s</Expiration></Credentials>`+
		`</%[1]sResult></%[1]sResponse>`,
		action, name, mark, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
}

func stsRefuses(code string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/xml")
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprintf(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error>`+
			`<Type>Sender</Type><Code>%s</Code><Message>it was sent session-%s</Message></Error></ErrorResponse>`,
			code, mark)
	}
}

func amazon() *world {
	return &world{services: map[string]http.HandlerFunc{ecrAPI: ecrPasswords(time.Now), stsAPI: stsRoles}}
}

func mustECR(t *testing.T, w *world, role string) Source {
	t.Helper()
	source, err := NewECR(at(ecrRegistry), role, Cloud{Transport: w})
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// The API that is asked follows from the registry's name, in all partitions.
func TestECRHosts(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		ecrRegistry:                  "eu-west-1 https://" + ecrAPI,
		strings.ToUpper(ecrRegistry): "eu-west-1 https://" + ecrAPI,
		ecrRegistry + ":443":         "eu-west-1 https://" + ecrAPI,
		"123456789012.dkr.ecr-fips.us-east-1.amazonaws.com": "us-east-1 https://ecr-fips.us-east-1.amazonaws.com",
		"123456789012.dkr.ecr.us-gov-west-1.amazonaws.com": "us-gov-west-1 " +
			"https://api.ecr.us-gov-west-1.amazonaws.com",
		"123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn": "cn-north-1 https://api.ecr.cn-north-1.amazonaws.com.cn",
		"123456789012.dkr-ecr.eu-west-1.on.aws":            "eu-west-1 https://ecr.eu-west-1.api.aws",
		"123456789012.dkr-ecr-fips.us-east-1.on.aws":       "us-east-1 https://ecr-fips.us-east-1.api.aws",
		"123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn": "cn-north-1 " +
			"https://ecr.cn-north-1.api.amazonwebservices.com.cn",
		"123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu": "eusc-de-east-1 " +
			"https://api.ecr.eusc-de-east-1.amazonaws.eu",
		"123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov": "us-iso-east-1 https://api.ecr.us-iso-east-1.c2s.ic.gov",
		"public.ecr.aws": "us-east-1 https://api.ecr-public.us-east-1.amazonaws.com",
	} {
		host, err := at(host).serviceHost()
		if err != nil {
			t.Error(err)
		}
		service, ok := ecrServiceOf(host)
		if got := service.region + " https://" + service.endpoint; !ok || got != want {
			t.Errorf("%s: %q, %v; want %q", host, got, ok, want)
		}
	}

	others := append(lookalikes(ecrRegistry), lookalikes("public.ecr.aws")...)
	others = append(others,
		"12345678901.dkr.ecr.eu-west-1.amazonaws.com",
		"123456789012.dkr.ecr.evil.example.amazonaws.com",
		"123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example",
		"123456789012.dkr.ecr.eu-west-1.evil-amazonaws.com",
		"123456789012.dkr.s3.eu-west-1.amazonaws.com",
		"123456789012.dkr-ecr.eu-west-1.amazonaws.com",
		"123456789012.dkr.ecr.eu-west-1.on.aws",
		"123456789012.dkr.ecr..amazonaws.com",
		"ghcr.io",
	)
	for _, host := range others {
		if source, err := NewECR(at(host), "", Cloud{}); err == nil {
			t.Errorf("%q is taken for ECR: %v", host, source)
		}
	}
	if _, err := NewECR(Registry{Address: ecrRegistry, ImpliedPort: "80"}, "", Cloud{}); err == nil {
		t.Error("http is taken")
	}
	for _, role := range []string{"pull", pullRole + "\n", "arn:aws:iam::1:role/x", "x" + pullRole, pullRole + " y"} {
		if _, err := NewECR(at(ecrRegistry), role, Cloud{}); err == nil {
			t.Errorf("the role %q is taken", role)
		}
	}
}

// A pod's web identity is shown to the region's STS, and the keys it gives sign the
// question for a password. The environment's region is another one.
func TestECRWebIdentity(t *testing.T) {
	bareEnvironment(t)
	t.Setenv("AWS_REGION", "us-west-2")
	t.Setenv(awsTokenFile, file(t, "web-"+mark))
	t.Setenv(awsRole, podRole)
	w := amazon()
	source := mustECR(t, w, "")

	got := mustGet(t, source)
	if got.Username != "AWS" || got.Password != "pass-"+mark+"-of-KEYpod" {
		t.Errorf("user %q, the right password: %v", got.Username, strings.HasSuffix(got.Password, "-of-KEYpod"))
	}
	form := w.to(stsAPI)[0].form()
	if form.Get("Action") != "AssumeRoleWithWebIdentity" || form.Get("WebIdentityToken") != "web-"+mark ||
		form.Get("RoleArn") != podRole {
		t.Errorf("STS got %v", form)
	}
	asked := w.to(ecrAPI)[0]
	if asked.method != http.MethodPost || asked.body != "{}" ||
		asked.header.Get("X-Amz-Target") != "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken" ||
		asked.header.Get("X-Amz-Security-Token") != "session-"+mark ||
		!strings.Contains(asked.header.Get("Authorization"), "/eu-west-1/ecr/aws4_request") {
		t.Errorf("ECR got %+v", asked)
	}
	if got := w.hosts(); len(got) != 2 {
		t.Errorf("asked were %v", got)
	}
}

// Two entries with two roles never show the one's password for the other.
func TestECRRoles(t *testing.T) {
	bareEnvironment(t)
	t.Setenv(awsKey, "KEYbase")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret-"+mark)
	w := amazon()
	roles := map[string]Source{}
	for _, name := range []string{"one", "two"} {
		roles[name] = mustECR(t, w, "arn:aws:iam::123456789012:role/"+name)
	}

	for range 3 {
		for name, source := range roles {
			if got := mustGet(t, source).Password; got != "pass-"+mark+"-of-KEY"+name {
				t.Errorf("%s is shown another's password", name)
			}
		}
	}
	for _, asked := range w.to(stsAPI) {
		if asked.form().Get("Action") != "AssumeRole" || asked.form().Get("RoleSessionName") != "pullgate" ||
			!strings.Contains(asked.header.Get("Authorization"), "Credential=KEYbase/") {
			t.Errorf("STS got %+v", asked)
		}
	}
	if n := len(w.to(ecrAPI)); n != 2 {
		t.Errorf("%d questions for a password; want 2", n)
	}
}

// Where a pod has a web identity and no role, the entry's role is assumed with it.
func TestECRBareWebIdentity(t *testing.T) {
	bareEnvironment(t)
	t.Setenv(awsTokenFile, file(t, "web-"+mark))
	w := amazon()
	if got := mustGet(t, mustECR(t, w, pullRole)).Password; !strings.HasSuffix(got, "-of-KEYpull") {
		t.Error("it is not the role's password")
	}
	form := w.to(stsAPI)[0].form()
	if form.Get("Action") != "AssumeRoleWithWebIdentity" || form.Get("RoleArn") != pullRole {
		t.Errorf("STS got %v", form)
	}
}

// EKS Pod Identity: the agent beside the pod gives the keys to whoever shows the
// pod's token.
func TestECRPodIdentity(t *testing.T) {
	bareEnvironment(t)
	var shown string
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown = r.Header.Get("Authorization")
		_, _ = fmt.Fprintf(
			w,
			`{"AccessKeyId":"KEYagent","SecretAccessKey":"secret-%s","Token":"session-%s","Expiration":%q}`,
			mark,
			mark,
			time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
		)
	}))
	t.Cleanup(agent.Close)
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent.URL+"/v1/credentials")
	t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file(t, "pod-"+mark))
	if got := mustGet(t, mustECR(t, amazon(), "")).Password; !strings.HasSuffix(got, "-of-KEYagent") {
		t.Error("it is not the pod's password")
	}
	if shown != "pod-"+mark {
		t.Error("the agent was not shown the pod's token")
	}
}

// On a machine of EC2, its metadata service gives the keys of the machine's role.
// The SDK, which writes to standard error when that is an old one, keeps still.
func TestECRMachine(t *testing.T) {
	for _, old := range []bool{false, true} {
		t.Run(fmt.Sprintf("old %v", old), func(t *testing.T) {
			bareEnvironment(t)
			t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
			w := amazon()
			w.services["169.254.169.254"] = func(rw http.ResponseWriter, r *http.Request) {
				switch {
				case r.Method == http.MethodPut && old:
					rw.WriteHeader(http.StatusNotFound)
				case r.Method == http.MethodPut:
					rw.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "300")
					_, _ = rw.Write([]byte("imds-" + mark))
				case strings.HasSuffix(r.URL.Path, "/security-credentials/"):
					_, _ = rw.Write([]byte("machine"))
				default:
					_, _ = fmt.Fprintf(
						rw,
						`{"Code":"Success","AccessKeyId":"KEYmachine","SecretAccessKey":"secret-%s",`+
							`"Token":"session-%s","Expiration":%q}`,
						mark,
						mark,
						time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
					)
				}
			}
			said := capture(t, func() {
				if got := mustGet(t, mustECR(t, w, "")).Password; !strings.HasSuffix(got, "-of-KEYmachine") {
					t.Error("it is not the machine's password")
				}
			})
			if said != "" {
				t.Errorf("standard error has %q", said)
			}
		})
	}
}

// A refusal names the role, and by its code what is wrong. What Amazon writes into
// its messages may repeat the request, and is not said.
func TestECRRefusals(t *testing.T) {
	for _, tt := range []struct {
		name      string
		sts, ecr  http.HandlerFunc
		tokenFile string
		want      string
	}{
		{"role denied", stsRefuses("AccessDenied"), nil, "", "refused (AccessDenied)"},
		{"signature", stsRefuses("SignatureDoesNotMatch"), nil, "", "refused (SignatureDoesNotMatch)"},
		{"no code", stsRefuses("session-" + mark), nil, "", "AWS credentials cannot be had"},
		{"STS redirects", redirect("https://evil.example/"), nil, "", "AWS credentials cannot be had"},
		{
			"no right to a password",
			stsRoles,
			reply(400, `{"__type":"com.amazonaws.ecr#AccessDeniedException","Message":"session-`+mark+`"}`),
			"",
			"GetAuthorizationToken answered 400 (AccessDeniedException)",
		},
		{"unnamed", stsRoles, reply(403, `{"__type":"session-`+mark+` x"}`), "", "GetAuthorizationToken answered 403"},
		{"ECR redirects", stsRoles, redirect("https://evil.example/"), "", "answered 307"},
		{"not JSON", stsRoles, reply(200, "pass-"+mark), "", "cannot be read"},
		{"endless", stsRoles, reply(200, strings.Repeat(" ", maxCloudAnswer)+"{}"), "", "cannot be read"},
		{"no data", stsRoles, reply(200, `{}`), "", "no password"},
		{"empty data", stsRoles, reply(200, `{"authorizationData":[]}`), "", "no password"},
		{
			"no base64", stsRoles, reply(200, `{"authorizationData":[{"authorizationToken":"`+mark+`!"}]}`),
			"",
			"no password",
		},
		{
			"another user",
			stsRoles,
			reply(200, `{"authorizationData":[{"authorizationToken":"`+encoded("x", mark)+`"}]}`),
			"", "no password",
		},
		{"control characters", stsRoles, reply(200, ecrAnswer("a\r\nX: "+mark, time.Now())), "", "no password"},
		{"no token file", stsRoles, nil, "/nowhere/web-identity", "/nowhere/web-identity"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bareEnvironment(t)
			t.Setenv(awsTokenFile, file(t, "web-"+mark))
			if tt.tokenFile != "" {
				t.Setenv(awsTokenFile, tt.tokenFile)
			}
			w := &world{services: map[string]http.HandlerFunc{
				stsAPI:         tt.sts,
				ecrAPI:         tt.ecr,
				"evil.example": reply(200, "{}"),
			}}
			source := mustECR(t, w, pullRole)
			_, err := source.Get(t.Context(), repo)
			wantError(t, err, tt.want)
			if identityOf(err) != "role "+pullRole {
				t.Errorf("it is about %q", identityOf(err))
			}
			w.never(t, "evil.example")
		})
	}
}

// Without any credentials, that is what is said.
func TestECRNoIdentity(t *testing.T) {
	bareEnvironment(t)
	_, err := mustECR(t, amazon(), "").Get(t.Context(), repo)
	wantError(t, err, "neither the environment, nor its files, nor the metadata service give any")
	if identityOf(err) != "the gate's own AWS identity" {
		t.Errorf("it is about %q", identityOf(err))
	}
}

// A program that a profile runs may print secrets, which the SDK's errors quote.
func TestECRProfileProcess(t *testing.T) {
	bareEnvironment(t)
	program := filepath.Join(t.TempDir(), "program")
	script(t, program, "echo not JSON "+mark)
	t.Setenv("AWS_CONFIG_FILE", file(t, "[default]\ncredential_process = "+program+"\n"))
	_, err := mustECR(t, amazon(), "").Get(t.Context(), repo)
	wantError(t, err, "AWS credentials cannot be had")
}

// ECR Public has an API of its own, in one region.
func TestECRPublic(t *testing.T) {
	bareEnvironment(t)
	t.Setenv(awsKey, "KEYbase")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret-"+mark)
	const api = "api.ecr-public.us-east-1.amazonaws.com"
	w := &world{services: map[string]http.HandlerFunc{api: reply(200,
		`{"authorizationData":{"authorizationToken":"`+encoded("AWS", testPassword)+`","expiresAt":1.9e9}}`)}}
	source, err := NewECR(at("public.ecr.aws"), "", Cloud{Transport: w})
	if err != nil {
		t.Fatal(err)
	}
	if mustGet(t, source).Password != testPassword {
		t.Error("it is another password")
	}
	if got := w.to(api)[0].header.Get("Authorization"); !strings.Contains(got, "/us-east-1/ecr-public/aws4_request") {
		t.Errorf("it is signed for %s", got)
	}
}

// A password is kept for as long as ECR says, and renewed ahead.
func TestECRExpiry(t *testing.T) {
	bareEnvironment(t)
	t.Setenv(awsKey, "KEYbase")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret-"+mark)
	c := newClock()
	w := &world{services: map[string]http.HandlerFunc{ecrAPI: ecrPasswords(c.now)}}
	made, err := NewECR(at(ecrRegistry), "", Cloud{Transport: w, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	source := made.(*renewing)
	source.spread = func() float64 { return 0 }
	for _, step := range []struct {
		by    time.Duration
		calls int
	}{
		{0, 1},
		{11*time.Hour + 49*time.Minute, 1},
		{2 * time.Minute, 2},
		{9 * time.Minute, 2},
	} {
		c.move(step.by)
		mustGet(t, source)
		settle(t, source)
		if n := len(w.to(ecrAPI)); n != step.calls {
			t.Errorf("after another %v: %d questions; want %d", step.by, n, step.calls)
		}
	}
}
