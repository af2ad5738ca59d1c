package proxy_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/test/hostile"
)

// What others in this field were bitten by, number by number, played against
// the whole gate. Most classes have longer tests elsewhere; this list is here
// to be complete.
//
// Not applicable to a gate that trusts keys:
//   - CVE-2026-24122 (expired intermediate), CVE-2023-25656 (DN parsing),
//     CVE-2024-56138 (revocation), CVE-2024-51491 (CRL cache): no certificate
//     is ever trusted; see GHSA-fx35-mq7g-6g98 below for one that would like to be.
//   - CVE-2026-49834 (one log counted twice), CVE-2026-39984 (another
//     certificate of a timestamp): timestamps prove nothing here, and log
//     entries only where CVE-2022-23649, CVE-2024-45395 and CVE-2026-22703
//     demand one.
//   - CVE-2026-54787 (a key's window ignored): a key in a policy has no window.
//   - CVE-2026-23992, CVE-2026-23991, CVE-2022-29173, CVE-2026-24137 (TUF):
//     nothing is fetched by TUF.
//   - CVE-2024-23332 (an older signed image under the tag): a signature is of
//     bytes and does not age; the design says so under what it does not protect.
//   - CVE-2020-15257 (containerd's shim): there is no shim.

// TestKnownVulnerabilities is the list: each attack has a gate of its own.
func TestKnownVulnerabilities(t *testing.T) {
	t.Parallel()
	for name, attack := range map[string]func(t *testing.T, r *rig){
		"CVE-2022-23649 a log entry of another signature makes up for nothing":       logEntryOfAnotherSignature,
		"CVE-2022-35929 CVE-2022-35930 an attestation is no signature":               attestationAsSignature,
		"CVE-2022-36056 a signature of a file, or of another image, is none of this": signatureOfAnother,
		"CVE-2023-46737 endless signatures are bounded work":                         endlessSignatures,
		"CVE-2024-29902 an attachment is read only as far as one may be long":        longAttachment,
		"CVE-2024-29903 CVE-2023-42813 CVE-2023-42814 CVE-2023-42815 " +
			"CVE-2023-42816 a manifest of heaps is no manifest": heapsInManifest,
		"CVE-2024-45395 a bundle of heaps of log entries is refused before they are read":          heapsOfLogEntries,
		"CVE-2026-22703 a log entry of another bundle makes up for nothing":                        foreignLogEntry,
		"CVE-2026-39395 a truly signed payload that says something else does not count":            otherSignedPayload,
		"GHSA-fx35-mq7g-6g98 a bundle's own key or certificate verifies nothing":                   keyInBundle,
		"CVE-2022-47633 GHSA-wfqx-gjrf-g28r a tag that changes between looks":                      changingTag,
		"CVE-2023-47630 the registry's word about a digest is nothing":                             wordAboutDigest,
		"CVE-2025-29778 GHSA-gg4x-fgg2-h9w9 CVE-2024-48921 every field of a policy decides":        policiesDecide,
		"CVE-2023-33959 a signature is for the very digest asked for":                              signatureDigest,
		"CVE-2023-33957 CVE-2023-33958 a good signature among many, and past the limit":            goodAmongMany,
		"CVE-2025-27403 CVE-2026-33540 CVE-2025-51471 a token realm elsewhere gets no credentials": realmElsewhere,
		"CVE-2026-48978 GHSA-vh4v-2xq2-g5cg a redirect elsewhere carries no credentials":           redirectElsewhere,
		"GHSA-qq97-vm5h-rrhg GHSA-5j5w-g665-5m35 a manifest that is two things is none":            manifestOfTwoKinds,
		"CVE-2024-3727 a digest is checked before it is part of a path":                            digestInPath,
		"CVE-2024-39897 CVE-2026-35172 a manifest and a blob are their repository's, as of now":    partOfRepository,
		"CVE-2025-48374 secrets are in no log, tokens are a repository's":                          secretsInLog,
		"CVE-2019-10214 a token service without TLS gets nothing of a TLS registry's":              tokenWithoutTLS,
		"CVE-2023-2253 a page has a largest size, and there is no catalog":                         largestPage,
		"containerd PR 12790, Harbor's User-Agent skip: nothing a client says skips the policy":    wordsOfClient,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			attack(t, newRig(t))
		})
	}
}

// refuses checks that nothing of an image leaves, and why.
func (r *rig) refuses(t *testing.T, image hostile.Image, why string) {
	t.Helper()
	e := r.get(manifests("prod/app", image.Digest)).refused(t, http.StatusForbidden, "DENIED")
	if !strings.Contains(e.Errors[0].Message, why) {
		t.Errorf("the refusal does not say %q: %.500s", why, e.Errors[0].Message)
	}
	r.refusedAt("a layer", blobs("prod/app", image.Layers[0]))
	r.refusedAt("the config", blobs("prod/app", image.Config))
}

// serves is for the positive control: the same thing done well is served.
func (r *rig) serves(t *testing.T, image hostile.Image) {
	t.Helper()
	r.get(manifests("prod/app", image.Digest)).served(t, image.Manifest)
}
