package profiles

import (
	"net/http"
	"net/url"
	"time"
)

// Table is one row for each registry that people proxy.
func Table() []Profile {
	return []Profile{
		dockerHub(),
		ghcr(),
		ecr(),
		ecrPublic(),
		artifactRegistry(),
		gcr(),
		acr(),
		quay(),
		harbor(),
		artifactory(),
		gitLab(),
		nexus(),
		zot(),
		distribution(),
		kubernetes(),
		mcr(),
	}
}

// Docker Hub names repositories with fewer rights than asked for in a token that
// it gives all the same, so that what is missing, or private, is a 401 by the
// registry behind a 200 by the realm (Docker's manual, "Registry authentication").
// It counts GET of a manifest, not HEAD, and says in headers how many are left
// (Docker's manual, "Pull usage and limits"). It has had a referrers API since
// 2025 (reports of snapshotters and of cosign).
func dockerHub() Profile {
	issued := time.Duration(0)
	return Profile{
		Name:       "Docker Hub",
		Host:       "docker.io",
		API:        "registry-1.docker.io",
		Repository: "library/app",
		Challenge: Challenge{
			Kind:    Bearer,
			Realm:   "https://auth.docker.io/token",
			Service: "registry.docker.io",
		},
		Tokens: Tokens{
			Fields: "token access_token",
			Says:   "300",
			Issued: &issued,
		},
		Absent: Absent{
			Hidden:     true,
			Unreadable: unauthorized,
		},
		Blobs: Blobs{
			Status: http.StatusTemporaryRedirect,
			To:     "https://production.cloudflare.docker.com/registry-v2/docker/",
			Life:   time.Hour,
		},
		Rate: Rate{Header: map[string]string{
			"Ratelimit-Limit":         "100;w=21600",
			"Ratelimit-Remaining":     "98;w=21600",
			"Docker-Ratelimit-Source": "192.0.2.1",
		}},
	}
}

// GitHub wants a token for public packages too. Its realm refuses guests with 401
// what is private; a token that lacks the package is refused with 403 by the
// registry. It has no referrers API: requests are redirected to its web page,
// which answers 429 for hours (reports, 2026). Who does not accept an index is
// told that there is none.
func ghcr() Profile {
	return Profile{
		Name:       "GHCR",
		Host:       "ghcr.io",
		Repository: "acme/app",
		Challenge: Challenge{
			Kind:    Bearer,
			Realm:   "https://ghcr.io/token",
			Service: "ghcr.io",
			Form:    Empty,
		},
		Tokens: Tokens{RefusesGuest: http.StatusUnauthorized},
		Absent: Absent{
			Hidden:     true,
			Unreadable: denied,
		},
		Manifests: Manifests{NeedsIndexType: true},
		Blobs: Blobs{
			Status: http.StatusTemporaryRedirect,
			To:     "https://pkg-containers.githubusercontent.com/ghcr1/blobs/",
			Life:   10 * time.Minute,
		},
		Referrers: Referrers{
			Away:       "https://github.com/-/v2/packages/container/package/app%2Freferrers%2Fsha256",
			AwayStatus: http.StatusSeeOther,
			There:      http.StatusTooManyRequests,
		},
	}
}

// Amazon's private registries take a password of twelve hours with every request,
// and have no tokens. A password that has ended is 403, as is a repository without
// the right to pull; an unknown one is 404 (messages quoted in reports). The digest
// was missing from answers for years (reports of 2017, and code of 2026 that still
// copes). Blobs are at S3, which refuses a second way to authenticate with 400, and
// by URLs that are signed for GET. A list of more than 1000 tags is an error
// (go-containerregistry).
func ecr() Profile {
	return Profile{
		Name:         "ECR",
		Host:         "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
		Repository:   "team/app",
		AccountsOnly: true,
		Challenge: Challenge{
			Kind:    Basic,
			Realm:   "https://123456789012.dkr.ecr.eu-west-1.amazonaws.com/",
			Service: "ecr.amazonaws.com",
			Form:    Text,
		},
		Absent:    Absent{Unreadable: denied},
		Manifests: Manifests{NoDigest: true},
		Blobs: Blobs{
			Status:        http.StatusTemporaryRedirect,
			To:            "https://prod-eu-west-1-starport-layer-bucket.s3.eu-west-1.amazonaws.com/layers/",
			Life:          time.Hour,
			HeadForbidden: true,
		},
		Tags: Tags{
			Page:    1000,
			Most:    1000,
			TooMany: http.StatusBadRequest,
		},
	}
}

// Amazon's public registry gives tokens to guests, by a realm whose path ends in a
// slash (its challenge). Blobs are at CloudFront.
func ecrPublic() Profile {
	return Profile{
		Name:       "ECR Public",
		Host:       "public.ecr.aws",
		Repository: "acme/app",
		Challenge: Challenge{
			Kind:    Bearer,
			Realm:   "https://public.ecr.aws/token/",
			Service: "public.ecr.aws",
		},
		Absent: Absent{Unreadable: denied},
		Blobs: Blobs{
			Status: http.StatusTemporaryRedirect,
			To:     "https://example.cloudfront.net/layers/",
			Life:   time.Hour,
		},
	}
}

// Google's Artifact Registry refuses at the realm already, with 403, what may not be
// read or does not exist (error texts in reports). The realm knows no POST (code of
// containerd and go-containerregistry). Blobs are on the registry's own host, at a
// relative Location (a measurement of 2026). It has had a referrers API since 2026
// (reports of Kubernetes' promotion tools).
func artifactRegistry() Profile {
	return Profile{
		Name:       "Artifact Registry",
		Host:       "europe-docker.pkg.dev",
		Repository: "acme-prod/images/app",
		Challenge: Challenge{
			Kind:    Bearer,
			Realm:   "https://europe-docker.pkg.dev/v2/token",
			Service: "europe-docker.pkg.dev",
		},
		Tokens: Tokens{
			Says:           "3600",
			Life:           time.Hour,
			Post:           http.StatusNotFound,
			RefusesGuest:   http.StatusForbidden,
			RefusesAccount: http.StatusForbidden,
		},
		Absent: Absent{
			Hidden:     true,
			Unreadable: denied,
		},
		Blobs: Blobs{
			Status: http.StatusFound,
			To:     "/artifacts-downloads/namespaces/acme-prod/",
		},
	}
}

// gcr.io is Artifact Registry behind its old name. Its challenge names no service,
// and used to be missing on all but /v2/ (code of containers/image). Its referrers,
// before 2026, redirected to a page to log in (reports).
func gcr() Profile {
	p := artifactRegistry()
	p.Name, p.Host, p.Repository = "gcr.io", "gcr.io", "acme-prod/app"
	p.Challenge = Challenge{
		Kind:   Bearer,
		Realm:  "https://gcr.io/v2/token",
		Silent: true,
	}
	p.Referrers = Referrers{
		Away:       "https://accounts.google.com/ServiceLogin",
		AwayStatus: http.StatusFound,
	}
	return p
}

// Azure answers access_token alone, without expires_in; what a token says itself is
// 75 minutes (Azure's description of its token service). What may not be read is
// 401. Entries of referrers lacked artifactType in 2024 (an issue of Azure's). Links
// of tags have a parameter of Azure's own. Blobs are at a data endpoint, by URLs of
// twenty minutes (Azure's manual, "Dedicated data endpoints").
func acr() Profile {
	return Profile{
		Name:         "ACR",
		Host:         "acme.azurecr.io",
		Repository:   "team/app",
		AccountsOnly: true,
		Challenge: Challenge{
			Kind:    Bearer,
			Realm:   "https://acme.azurecr.io/oauth2/token",
			Service: "acme.azurecr.io",
		},
		Tokens: Tokens{
			Fields: "access_token",
			Life:   75 * time.Minute,
			JWT:    true,
		},
		Absent: Absent{
			Hidden:     true,
			Unreadable: unauthorized,
		},
		Blobs: Blobs{
			Status: http.StatusTemporaryRedirect,
			To:     "https://acme.westeurope.data.azurecr.io/blobs/",
			Life:   20 * time.Minute,
		},
		Referrers: Referrers{Untyped: true},
		Tags:      Tags{Query: url.Values{"orderby": {""}}},
	}
}

// Quay answers token alone; it is a JWT of an hour, and the realm knows no POST.
// The URL of a blob is good for a minute. Referrers of a manifest that it does not
// have are 400. A page of tags links to the next by a whole URL (all of it Quay's
// source code: endpoints/v2, auth/registry_jwt_auth.py, storage/cloud.py).
func quay() Profile {
	return Profile{
		Name:       "Quay",
		Host:       "quay.io",
		Repository: "acme/app",
		Challenge: Challenge{
			Kind:    Bearer,
			Realm:   "https://quay.io/v2/auth",
			Service: "quay.io",
		},
		Tokens: Tokens{
			Life: time.Hour,
			JWT:  true,
			Post: http.StatusMethodNotAllowed,
		},
		Absent: Absent{
			Hidden:     true,
			Unreadable: unauthorized,
		},
		Blobs: Blobs{
			Status: http.StatusFound,
			To:     "https://cdn01.quay.io/quayio-production-s3/",
			Life:   time.Minute,
		},
		Referrers: Referrers{UnknownSubject: http.StatusBadRequest},
		Tags: Tags{
			Page:  100,
			Links: Absolute,
		},
		Rate: Rate{Form: HTML},
	}
}

// Harbor asks for a token of clients that show nothing, and for a password of those
// that show a token which is not good enough (its source code, middleware/v2auth).
// Where a proxy compresses, HEAD says another length than GET (code of oras-go).
func harbor() Profile {
	issued := time.Duration(0)
	return Profile{
		Name:       "Harbor",
		Host:       "harbor.acme.example",
		Repository: "library/app",
		Header:     map[string]string{"Set-Cookie": "sid=" + Mark + "; Path=/; HttpOnly", "X-Request-Id": "1"},
		Challenge: Challenge{
			Kind:    BasicOnShow,
			Realm:   "https://harbor.acme.example/service/token",
			Service: "harbor-registry",
		},
		Tokens: Tokens{
			Says:   "1800",
			Life:   30 * time.Minute,
			Issued: &issued,
		},
		Absent: Absent{
			Hidden:     true,
			Unreadable: unauthorized,
		},
		Manifests: Manifests{Head: HeadOtherLength},
	}
}

// Artifactory's API form has the repository before /v2, and a realm below it that
// spells out port 443; a POST to that is 401 (headers quoted in reports, code of
// containerd). A tag that does not exist may be 403 (code of go-containerregistry),
// and digests may be among the tags (code of containers/image). It has referrers
// since 7.90.1 (JFrog's manual).
func artifactory() Profile {
	return Profile{
		Name:         "Artifactory",
		Host:         "artifactory.acme.example",
		Base:         "/artifactory/api/docker/local/v2/",
		Repository:   "team/app",
		AccountsOnly: true,
		Header: map[string]string{
			"Set-Cookie":       "lb=" + Mark + "; Path=/",
			"X-Artifactory-Id": "1",
			"Server":           "Artifactory/7.90.1",
		},
		Challenge: Challenge{
			Kind:    Bearer,
			Realm:   "https://artifactory.acme.example:443/artifactory/api/docker/local/v2/token",
			Service: "artifactory.acme.example",
		},
		Tokens: Tokens{
			Says: "3600",
			Life: time.Hour,
			Post: http.StatusUnauthorized,
		},
		Absent: Absent{
			Hidden:     true,
			Unreadable: denied,
			Tag:        denied,
		},
		Tags: Tags{Digests: true},
	}
}

// GitLab's realm is on the host of the application, whatever the registry's is
// (challenges quoted in reports). That it has no referrers API is an assumption: a
// request for one is open.
func gitLab() Profile {
	return Profile{
		Name:       "GitLab",
		Host:       "registry.gitlab.com",
		Repository: "acme/group/app",
		Challenge: Challenge{
			Kind:    Bearer,
			Realm:   "https://gitlab.com/jwt/auth",
			Service: "container_registry",
		},
		Tokens: Tokens{Life: 5 * time.Minute},
		Absent: Absent{
			Hidden:     true,
			Unreadable: unauthorized,
		},
		Blobs: Blobs{
			Status:        http.StatusTemporaryRedirect,
			To:            "https://storage.googleapis.com/gitlab-registry/",
			Life:          20 * time.Minute,
			HeadForbidden: true,
		},
		Referrers: Referrers{None: Refusal{Status: http.StatusNotFound, Code: "UNSUPPORTED"}},
	}
}

// Nexus wants a password, in capitals, as long as "force basic authentication" is
// on, which it is for new repositories (reports). A HEAD that is refused has no body.
// Its lists of tags hold null now and then (code of containers/image). One port is
// one repository.
func nexus() Profile {
	return Profile{
		Name:         "Nexus",
		Host:         "nexus.acme.example:5001",
		Repository:   "team/app",
		AccountsOnly: true,
		Challenge: Challenge{
			Kind:   Basic,
			Scheme: "BASIC",
			Realm:  "Sonatype Nexus Repository Manager",
			Form:   Empty,
		},
		Absent: Absent{
			Hidden:     true,
			Unreadable: denied,
		},
		Referrers: Referrers{None: Refusal{Status: http.StatusNotFound, Form: HTML}},
		Tags:      Tags{Nulls: true},
	}
}

// zot spells the scheme in small letters, and links from one page of tags to the
// next by a path (its source code, pkg/api/routes.go).
func zot() Profile {
	return Profile{
		Name:       "zot",
		Host:       "zot.acme.example",
		Repository: "team/app",
		Challenge: Challenge{
			Kind:    Bearer,
			Scheme:  "bearer",
			Realm:   "https://zot.acme.example/zot/auth/token",
			Service: "zot.acme.example",
		},
		Tokens: Tokens{
			Fields: "access_token",
			Says:   "300",
		},
		Absent: Absent{Unreadable: unauthorized},
	}
}

// distribution wants nothing as it comes, has no referrers API, of which it says so
// in plain text, and sends blobs by the storage driver's own URLs where that has any
// (its source code).
func distribution() Profile {
	return Profile{
		Name:       "distribution",
		Host:       "registry.acme.example",
		Repository: "team/app",
		Blobs: Blobs{
			Status:        http.StatusTemporaryRedirect,
			To:            "https://acme-images.s3.eu-west-1.amazonaws.com/docker/registry/v2/blobs/",
			Life:          20 * time.Minute,
			HeadForbidden: true,
		},
		Referrers: Referrers{None: Refusal{Status: http.StatusNotFound, Form: Text}},
	}
}

// registry.k8s.io is a redirector in front of regional repositories at Google, and
// of buckets at Amazon for blobs. The regions are not consistent: what one of them
// has by tag another does not have by digest yet. Referrers are refused before they
// arrive (its source code, cmd/archeio, and reports of 2026).
func kubernetes() Profile {
	return Profile{
		Name:       "registry.k8s.io",
		Host:       "registry.k8s.io",
		Repository: "pause/app",
		Manifests: Manifests{
			MovedTo: "https://us-west1-docker.pkg.dev/v2/k8s-artifacts-prod/images/",
			Lags:    1,
		},
		Blobs: Blobs{
			Status: http.StatusTemporaryRedirect,
			To:     "https://prod-registry-k8s-io-eu-west-1.s3.dualstack.eu-west-1.amazonaws.com/containers/",
		},
		Referrers: Referrers{None: Refusal{Status: http.StatusNotFound, Form: HTML}},
	}
}

// Microsoft's own images want no credentials, and blobs are at a data endpoint of
// the region (lists of hosts for firewalls). That it has no referrers API is an
// assumption.
func mcr() Profile {
	return Profile{
		Name:       "MCR",
		Host:       "mcr.microsoft.com",
		Repository: "dotnet/app",
		Blobs: Blobs{
			Status: http.StatusTemporaryRedirect,
			To:     "https://westeurope.data.mcr.microsoft.com/blobs/",
			Life:   10 * time.Minute,
		},
		Referrers: Referrers{None: Refusal{Status: http.StatusNotFound, Code: "UNSUPPORTED"}},
	}
}
