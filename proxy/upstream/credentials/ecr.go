package credentials

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
)

// ecrUser is the user name of every password of ECR.
const ecrUser = "AWS"

// ecrSession names the gate's sessions in Amazon's logs.
const ecrSession = "pullgate"

// The names of what the environment says to Amazon's SDK.
const (
	awsTokenFile = "AWS_WEB_IDENTITY_TOKEN_FILE" //nolint:gosec // a variable's name
	awsRole      = "AWS_ROLE_ARN"
	awsKey       = "AWS_ACCESS_KEY_ID"
)

var (
	// ecrHost matches the private registries of all partitions: account, FIPS,
	// region, domain.
	ecrHost = regexp.MustCompile(`^[0-9]{12}\.dkr([.-])ecr(-fips)?\.([a-z]{2,4}(?:-[a-z0-9]+){1,4})\.` +
		`(amazonaws\.com|amazonaws\.com\.cn|amazonaws\.eu|on\.aws|on\.amazonwebservices\.com\.cn|` +
		`sc2s\.sgov\.gov|c2s\.ic\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)$`)

	roleARN = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]{1,512}$`)
	awsCode = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9.]{0,63}$`)
)

// ecrService is the API that gives the passwords of a registry.
type ecrService struct {
	endpoint string // its host
	region   string
	name     string // as signatures have it
	target   string // the operation
}

// ecr asks Amazon's ECR for a password, as a role if there is one.
type ecr struct {
	service ecrService
	role    string // empty: whom the environment says the gate is
	cloud   Cloud
}

// NewECR is the source of a registry of Amazon's ECR. Whom the gate is, it takes
// from where Amazon's SDK takes it; role, if it is not empty, is then assumed.
// The region is the one in the registry's name. It is an error if the registry
// is not at a host of ECR.
func NewECR(registry Registry, role string, cloud Cloud) (Source, error) {
	host, err := registry.serviceHost()
	if err != nil {
		return nil, err
	}
	service, ok := ecrServiceOf(host)
	if !ok {
		return nil, fmt.Errorf("auth type ecr is for hosts of Amazon's ECR, and %s is none: "+
			"they are called ACCOUNT.dkr.ecr.REGION.amazonaws.com, or public.ecr.aws", registry.Address)
	}
	if role != "" && !roleARN.MatchString(role) {
		return nil, errors.New("roleARN is no ARN of a role: arn:aws:iam::ACCOUNT:role/NAME")
	}

	e := &ecr{service: service, role: role, cloud: cloud}
	return newRenewing(registry.Host, e.identity(), cloud.Now, e.fetch), nil
}

// ecrServiceOf is the API of a registry's host. Registries with FIPS and with
// IPv6 have their own.
func ecrServiceOf(host string) (ecrService, bool) {
	if host == "public.ecr.aws" || host == "ecr-public.aws.com" {
		return ecrService{
			endpoint: "api.ecr-public.us-east-1.amazonaws.com",
			region:   "us-east-1",
			name:     "ecr-public",
			target:   "SpencerFrontendService.GetAuthorizationToken",
		}, true
	}

	m := ecrHost.FindStringSubmatch(host)
	if m == nil {
		return ecrService{}, false
	}
	dual, fips, region, domain := m[1] == "-", m[2], m[3], m[4]

	api, onDual := strings.CutPrefix(domain, "on.")
	if dual != onDual {
		return ecrService{}, false
	}
	endpoint := "api.ecr." + region + "." + domain
	switch {
	case dual && api == "aws":
		endpoint = "ecr" + fips + "." + region + ".api.aws"
	case dual:
		endpoint = "ecr" + fips + "." + region + ".api." + api
	case fips != "":
		endpoint = "ecr-fips." + region + "." + domain
	}
	return ecrService{
		endpoint: endpoint,
		region:   region,
		name:     "ecr",
		target:   "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken",
	}, true
}

// identity is whom the gate is to Amazon, as far as is known beforehand.
func (e *ecr) identity() string {
	switch {
	case e.role != "":
		return "role " + e.role
	case os.Getenv(awsTokenFile) != "" && roleARN.MatchString(os.Getenv(awsRole)):
		return "role " + os.Getenv(awsRole)
	}
	return "the gate's own AWS identity"
}

// fetch asks for a password. Everything is read anew, so that a changed file or
// role is noticed.
func (e *ecr) fetch(ctx context.Context) (lease, error) {
	cfg, err := e.config(ctx)
	if err != nil {
		return lease{}, fmt.Errorf("the AWS configuration cannot be used: %s", awsWhy(err))
	}

	keys, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return lease{}, fmt.Errorf("AWS credentials cannot be had: %s", awsWhy(err))
	}

	return e.ask(ctx, cfg, keys)
}

// config is the SDK's configuration with the credentials of the role. In a pod
// that has a web identity and no role of its own, that identity assumes the role.
func (e *ecr) config(ctx context.Context) (aws.Config, error) {
	web := os.Getenv(awsTokenFile) != "" && os.Getenv(awsKey) == ""
	if web { // the SDK's error would not say that it is the file
		if _, err := os.Stat(os.Getenv(awsTokenFile)); err != nil {
			return aws.Config{}, err
		}
	}

	bare := web && e.role != "" && os.Getenv(awsRole) == ""
	options := []func(*config.LoadOptions) error{
		config.WithRegion(e.service.region),
		config.WithLogger(logging.LoggerFunc(quietly)),
	}
	if e.cloud.Transport != nil {
		options = append(options, config.WithHTTPClient(e.cloud.client()))
	}
	if bare {
		options = append(options, config.WithCredentialsProvider(aws.AnonymousCredentials{}))
	}

	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil || e.role == "" {
		return cfg, err
	}

	service := sts.NewFromConfig(cfg)
	if bare {
		token := stscreds.IdentityTokenFile(os.Getenv(awsTokenFile))
		cfg.Credentials = stscreds.NewWebIdentityRoleProvider(service, e.role, token,
			func(o *stscreds.WebIdentityRoleOptions) { o.RoleSessionName = ecrSession })
		return cfg, nil
	}
	cfg.Credentials = stscreds.NewAssumeRoleProvider(service, e.role,
		func(o *stscreds.AssumeRoleOptions) { o.RoleSessionName = ecrSession })
	return cfg, nil
}

// quietly keeps what the SDK says of itself out of the way.
func quietly(_ logging.Classification, format string, args ...any) {
	slog.Debug("the AWS SDK says something", "text", fmt.Sprintf(format, args...))
}

// ask sends GetAuthorizationToken, signed with keys, and once: to no host that the
// answer redirects to.
func (e *ecr) ask(ctx context.Context, cfg aws.Config, keys aws.Credentials) (lease, error) {
	const body = "{}"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+e.service.endpoint+"/",
		strings.NewReader(body))
	if err != nil {
		return lease{}, err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", e.service.target)

	hash := sha256.Sum256([]byte(body))
	err = v4.NewSigner().SignHTTP(ctx, keys, req, hex.EncodeToString(hash[:]), e.service.name, e.service.region,
		e.cloud.now())
	if err != nil {
		return lease{}, errors.New("the request to ECR could not be signed")
	}

	client := e.cloud.client()
	if trusting, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok { // with AWS_CA_BUNDLE
		transport := trusting.GetTransport()
		defer transport.CloseIdleConnections()
		client.Transport = transport
	}
	resp, err := client.Do(req)
	if err != nil {
		return lease{}, fmt.Errorf("ECR cannot be reached: %s", awsWhy(err))
	}
	defer resp.Body.Close()

	if resp.StatusCode != http.StatusOK {
		return lease{}, fmt.Errorf("ECR's GetAuthorizationToken answered %d%s", resp.StatusCode, ecrCode(resp.Body))
	}
	return e.parse(resp.Body)
}

// parse reads an answer: ECR gives a list of one, ECR Public the one by itself.
func (e *ecr) parse(body io.Reader) (lease, error) {
	type data struct {
		Token   string  `json:"authorizationToken"`
		Expires float64 `json:"expiresAt"` // seconds since 1970
	}
	var answer struct {
		Data json.RawMessage `json:"authorizationData"`
	}
	if err := readJSON(body, &answer); err != nil {
		return lease{}, err
	}

	var list []data
	if json.Unmarshal(answer.Data, &list) != nil {
		list = make([]data, 1)
		if json.Unmarshal(answer.Data, &list[0]) != nil {
			return lease{}, errors.New("ECR sent no password")
		}
	}
	if len(list) == 0 {
		return lease{}, errors.New("ECR sent no password")
	}

	plain, err := base64.StdEncoding.DecodeString(list[0].Token)
	user, password, ok := strings.Cut(string(plain), ":")
	if err != nil || !ok || user != ecrUser || !isShowable(password) {
		return lease{}, errors.New("ECR sent no password")
	}

	until := e.cloud.now().Add(leastLife)
	if list[0].Expires > 0 && list[0].Expires < math.MaxInt32 {
		until = time.UnixMilli(int64(list[0].Expires * 1000))
	}
	return lease{shown: Credentials{Username: ecrUser, Password: password}, until: until}, nil
}

// ecrCode is the name of an error of ECR in brackets, where its answer has one.
func ecrCode(body io.Reader) string {
	var answer struct {
		Type string `json:"__type"`
	}
	if readJSON(body, &answer) != nil {
		return ""
	}

	code := answer.Type[strings.LastIndexByte(answer.Type, '#')+1:]
	if !awsCode.MatchString(code) {
		return ""
	}
	return " (" + code + ")"
}

// awsWhy is what an error of the SDK says, as far as it can hold no secret: what
// Amazon's services write into their messages may repeat the request.
func awsWhy(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) && awsCode.MatchString(api.ErrorCode()) {
		return "refused (" + api.ErrorCode() + ")"
	}
	if text := why(err); text != "" {
		return text
	}
	return "neither the environment, nor its files, nor the metadata service give any"
}
