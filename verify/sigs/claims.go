package sigs

import (
	"crypto/x509"
	"errors"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"github.com/pullgate/pullgate/policy"
)

// claimsOf reads what a Fulcio certificate says of its owner. A certificate
// with more than one subject alternative name is none of Fulcio's, and a policy
// could not say which of them it means.
func claimsOf(c *x509.Certificate) (policy.Claims, error) {
	if len(cryptoutils.GetSubjectAlternateNames(c)) > 1 {
		return policy.Claims{}, errors.New("its certificate has several subject alternative names")
	}

	s, err := certificate.SummarizeCertificate(c)
	if err != nil {
		return policy.Claims{}, errors.New("its certificate names no identity")
	}

	e := s.Extensions
	values := map[string]string{
		"buildSignerURI":                      e.BuildSignerURI,
		"buildSignerDigest":                   e.BuildSignerDigest,
		"runnerEnvironment":                   e.RunnerEnvironment,
		"sourceRepositoryURI":                 e.SourceRepositoryURI,
		"sourceRepositoryDigest":              e.SourceRepositoryDigest,
		"sourceRepositoryRef":                 e.SourceRepositoryRef,
		"sourceRepositoryIdentifier":          e.SourceRepositoryIdentifier,
		"sourceRepositoryOwnerURI":            e.SourceRepositoryOwnerURI,
		"sourceRepositoryOwnerIdentifier":     e.SourceRepositoryOwnerIdentifier,
		"buildConfigURI":                      e.BuildConfigURI,
		"buildConfigDigest":                   e.BuildConfigDigest,
		"buildTrigger":                        e.BuildTrigger,
		"runInvocationURI":                    e.RunInvocationURI,
		"sourceRepositoryVisibilityAtSigning": e.SourceRepositoryVisibilityAtSigning,
		"githubWorkflowTrigger":               e.GithubWorkflowTrigger,
		"githubWorkflowSHA":                   e.GithubWorkflowSHA,
		"githubWorkflowName":                  e.GithubWorkflowName,
		"githubWorkflowRepository":            e.GithubWorkflowRepository,
		"githubWorkflowRef":                   e.GithubWorkflowRef,
	}
	return policy.Claims{
		Issuer:  e.Issuer,
		Subject: s.SubjectAlternativeName,
		IsEmail: len(c.EmailAddresses) == 1, // its only name, see above
		Values:  values,
	}, nil
}
