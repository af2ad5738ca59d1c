package sigs

import (
	"archive/tar"
	"bytes"
	"crypto/elliptic"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/fixtures"
	"github.com/pullgate/pullgate/verify/oci"
)

// artifactOf reads a signature artifact of the fixtures as the gate does.
func artifactOf(
	t *testing.T,
	set *fixtures.Set,
	repository, reference string,
) (a *Artifact, config []byte, layers []digest.Digest) {
	t.Helper()
	m := set.Manifest(repository, reference)
	if m == nil {
		t.Fatalf("no %s:%s", repository, reference)
	}
	a, ok := ParseArtifact(m.Raw)
	if !ok {
		t.Fatalf("%s:%s is no artifact", repository, reference)
	}
	for _, l := range a.Layers {
		layers = append(layers, l.Digest)
	}
	return a, set.Blob(repository, a.Config.Digest), layers
}

func TestRealArtifacts(t *testing.T) {
	t.Parallel()
	set := fixtures.Load(t)
	tags, referrers := 0, 0
	check := func(repository, reference string, image, attached digest.Digest) {
		a, config, layers := artifactOf(t, set, repository, reference)
		if a.Subject != attached {
			t.Errorf("%s:%s: subject %q, want %q", repository, reference, a.Subject, attached)
		}
		if err := CheckConfig(a.Config.MediaType, config, layers); err != nil {
			t.Errorf("%s:%s: config: %v", repository, reference, err)
		}
		for _, l := range a.Layers {
			// image is named in every case; under a tag the gate does not know it.
			for _, named := range []digest.Digest{image, attached} {
				if err := CheckLayer(l, set.Blob(repository, l.Digest), named); err != nil {
					t.Errorf("%s:%s: layer for %q: %v", repository, reference, named, err)
				}
			}
			if err := CheckLayer(l, set.Blob(repository, l.Digest), digest.FromString("another")); err == nil {
				t.Errorf("%s:%s: passes as attached to another image", repository, reference)
			}
		}
	}
	seen := map[string]bool{}
	for _, f := range set.Fixtures {
		m := set.Manifest(f.Repository, f.Tag)
		image := m.Descriptor.Digest
		if seen[f.Repository+image.String()] {
			continue
		}
		seen[f.Repository+image.String()] = true
		for _, suffix := range []string{".sig", ".att"} {
			tag := strings.Replace(image.String(), ":", "-", 1) + suffix
			if f.Name == "impostor" || set.Manifest(f.Repository, tag) == nil {
				continue
			}
			tags++
			check(f.Repository, tag, image, "")
		}
		for _, r := range set.Referrers(f.Repository, image) {
			referrers++
			check(f.Repository, r.Digest.String(), image, image)
		}
	}
	if tags < 15 || referrers < 15 {
		t.Errorf("%d tags and %d referrers, want 15 of each and more", tags, referrers)
	}
}

func TestForeignManifests(t *testing.T) {
	t.Parallel()
	set := fixtures.Load(t)
	for _, f := range set.Fixtures {
		if _, ok := ParseArtifact(set.Manifest(f.Repository, f.Tag).Raw); ok {
			t.Errorf("%s is taken for a signature artifact", f.Name)
		}
	}
	image := imageOf(t, set, fixtures.Fixture{Repository: "acme/impostor", Tag: "v1"})
	impostor := set.Manifest("acme/impostor", strings.Replace(image.String(), ":", "-", 1)+".sig")
	if _, ok := ParseArtifact(impostor.Raw); ok {
		t.Error("a runnable image under a .sig tag is taken for a signature artifact")
	}
}

func TestParseArtifact(t *testing.T) {
	t.Parallel()
	const d = `"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2`
	manifest := func(config, layers, more string) string {
		return `{"schemaVersion":2,"config":{"mediaType":"` +
			config + `",` + d + `},"layers":[` + layers + `]` + more + `}`
	}
	layer := func(mediaType string) string { return `{"mediaType":"` + mediaType + `",` + d + `}` }
	signature := layer(MediaTypeSimpleSigning)
	for name, tt := range map[string]struct {
		manifest string
		ok       bool
	}{
		"signature":               {manifest(configImage, signature, ""), true},
		"signature as a referrer": {manifest(ArtifactTypeSignature, signature, `,"subject":`+layer("x")), true},
		"two signatures":          {manifest(configImage, signature+","+signature, ""), true},
		"bundle":                  {manifest(configEmpty, layer(bundleV03), `,"subject":`+layer("x")), true},
		"attestation":             {manifest(configImage, layer(MediaTypeDSSE), ""), true},
		"no layer":                {manifest(configImage, "", ""), false},
		"layers missing":          {`{"config":{"mediaType":"` + configImage + `",` + d + `}}`, false},
		"layers null": {
			`{"config":{"mediaType":"` + configImage + `",` + d + `},"layers":null}`,
			false,
		},
		"config missing":         {`{"layers":[` + signature + `]}`, false},
		"config null":            {`{"config":null,"layers":[` + signature + `]}`, false},
		"config of another type": {manifest("application/vnd.oci.image.config.v2+json", signature, ""), false},
		"config of Docker's type": {
			manifest("application/vnd.docker.container.image.v1+json", signature, ""),
			true,
		},
		"config of Docker's type, with a layer of Docker's": {
			manifest(
				"application/vnd.docker.container.image.v1+json",
				signature+","+layer("application/vnd.docker.image.rootfs.diff.tar.gzip"),
				"",
			),
			false,
		},
		"config without a type": {manifest("", signature, ""), false},
		"one layer of an image": {
			manifest(configImage, signature+","+layer("application/vnd.oci.image.layer.v1.tar+gzip"), ""),
			false,
		},
		"first layer of an image": {
			manifest(configImage, layer("application/vnd.oci.image.layer.v1.tar+gzip")+","+signature, ""),
			false,
		},
		"a layer without a type": {manifest(configImage, layer(""), ""), false},
		"a layer's type in another case": {
			manifest(configImage, layer(strings.ToUpper(MediaTypeSimpleSigning)), ""),
			false,
		},
		"a layer's type with a parameter": {manifest(configImage, layer(MediaTypeSimpleSigning+";x=y"), ""), false},
		"an SBOM": {
			manifest(configEmpty, layer("application/spdx+json"), `,"subject":`+layer("x")),
			false,
		},
		"manifests too": {manifest(configImage, signature, `,"manifests":[]`), false},
		"an index":      {`{"schemaVersion":2,"manifests":[` + layer("x") + `]}`, false},
		"a list":        {`[]`, false},
		"null":          {`null`, false},
		"nothing":       {``, false},
		"garbage":       {"\x1f\x8b", false},
	} {
		t.Run(name, func(t *testing.T) {
			a, ok := ParseArtifact([]byte(tt.manifest))
			if ok != tt.ok || (a != nil) != tt.ok {
				t.Errorf("%v %+v, want %v", ok, a, tt.ok)
			}
		})
	}
}

func TestCheckConfig(t *testing.T) {
	t.Parallel()
	layers := []digest.Digest{digest.FromString("a"), digest.FromString("b")}
	with := func(config string, diffIDs ...digest.Digest) string {
		ids := ""
		for i, d := range diffIDs {
			if i > 0 {
				ids += ","
			}
			ids += `"` + d.String() + `"`
		}
		return `{"architecture":"","os":"","rootfs":{"type":"layers","diff_ids":[` + ids + `]},"config":` + config + `}`
	}
	good := with("{}", layers...)
	runnable := with(`{"Cmd":["/bin/sh"]}`, layers...)
	for name, tt := range map[string]struct {
		mediaType, config string
		ok                bool
	}{
		"empty":                         {configEmpty, "{}", true},
		"empty, with blanks":            {configEmpty, " {}\n", true},
		"empty under the image type":    {configImage, "{}", true},
		"as cosign writes it":           {configImage, good, true},
		"as cosign writes it, referrer": {ArtifactTypeSignature, good, true},
		"config null":                   {configImage, with("null", layers...), true},
		"empty type, not empty":         {configEmpty, good, false},
		"empty type, a space inside":    {configEmpty, "{ }", false},
		"empty type, a tar after it":    {configEmpty, "{}" + strings.Repeat("\x00", 1022), false},
		"empty type, nothing":           {configEmpty, "", false},
		"empty type, null":              {configEmpty, "null", false},
		"empty type, a list":            {configEmpty, "[]", false},
		"a tar that starts with {}":     {configImage, "{}" + strings.Repeat("\x00", 1022), false},
		"a tar that starts with config": {configImage, good + strings.Repeat("\x00", 512), false},
		"two configs":                   {configImage, good + good, false},
		"nothing":                       {configImage, "", false},
		"garbage":                       {configImage, "\x1f\x8b\x08", false},
		"a list":                        {configImage, "[]", false},
		"a refused image's":             {ArtifactTypeSignature, runnable, false},
		"Cmd":                           {configImage, runnable, false},
		"Entrypoint":                    {configImage, with(`{"Entrypoint":["/x"]}`, layers...), false},
		"Env":                           {configImage, with(`{"Env":[]}`, layers...), false},
		"Labels":                        {configImage, with(`{"Labels":{"a":"b"}}`, layers...), false},
		"config a list":                 {configImage, with(`["/bin/sh"]`, layers...), false},
		"config twice":                  {configImage, with(`{"Cmd":["/bin/sh"]},"config":{}`, layers...), false},
		"Config beside it":              {configImage, with(`{},"Config":{"Cmd":["/bin/sh"]}`, layers...), false},
		"Config alone":                  {configImage, strings.Replace(runnable, `"config"`, `"Config"`, 1), false},
		"diff_ids of other layers":      {configImage, with("{}", digest.FromString("x"), layers[1]), false},
		"diff_ids in another order":     {configImage, with("{}", layers[1], layers[0]), false},
		"diff_ids fewer":                {configImage, with("{}", layers[0]), false},
		"diff_ids more":                 {configImage, with("{}", append(slices.Clone(layers), layers[0])...), false},
		"diff_ids none":                 {configImage, with("{}"), false},
		"diff_ids missing":              {configImage, `{"rootfs":{"type":"layers"},"config":{}}`, false},
		"rootfs missing":                {configImage, `{"config":{}}`, false},
		"rootfs twice": {
			configImage,
			strings.Replace(good, "{", `{"rootfs":{"diff_ids":[]},`, 1),
			false,
		},
		"rootfs in two cases": {
			configImage,
			strings.Replace(good, "{", `{"RootFS":{"diff_ids":[]},`, 1),
			false,
		},
		"nested too deeply": {
			configImage,
			strings.Replace(good, "{", `{"x":`+strings.Repeat("[", 100)+strings.Repeat("]", 100)+`,`, 1),
			false,
		},
		"not UTF-8":                     {configImage, strings.Replace(good, `"os":""`, "\"os\":\"\xff\"", 1), false},
		"runnable under the empty type": {configEmpty, runnable, false},
		"manifest instead of a config":  {configImage, `{"schemaVersion":2,"layers":[]}`, false},
		"statement instead of a config": {configImage, statementOf(layers[0].Encoded()), false},
		"signature instead of a config": {configImage, payload(layers[0].String()), false},
		"the layers, but as one string": {
			configImage,
			`{"config":{},"rootfs":{"diff_ids":"` + layers[0].String() + `"}}`,
			false,
		},
		"diff_ids at the wrong place": {
			configImage,
			`{"config":{},"diff_ids":["` + layers[0].String() + `","` + layers[1].String() + `"]}`,
			false,
		},
		"empty object, then a blank tar": {configImage, "{}" + strings.Repeat(" ", 1022), true},
	} {
		t.Run(name, func(t *testing.T) {
			if err := CheckConfig(tt.mediaType, []byte(tt.config), layers); (err == nil) != tt.ok {
				t.Error(err)
			}
		})
	}
}

func TestCheckLayer(t *testing.T) {
	t.Parallel()
	key := newECDSA(t, elliptic.P256())
	image, other := digest.FromString("an image"), digest.FromString("another")
	sum := image.Encoded()
	dsse := func(payloadType, payload string) string {
		e := envelope(t, key, payloadType, payload)
		return e[len(`"dsseEnvelope":`):]
	}
	bundle := func(statement string) string { return string(bundleOf(t, key, statement).Payload) }
	message := func(d digest.Digest) string {
		raw := make([]byte, 0, 64)
		for i := 0; i+1 < len(d.Encoded()); i += 2 {
			raw = append(raw, unhex(d.Encoded()[i])<<4|unhex(d.Encoded()[i+1]))
		}
		content := `"messageSignature":{"messageDigest":{"algorithm":"SHA2_256","digest":"` +
			base64.StdEncoding.EncodeToString(raw) + `"},"signature":"AAAA"}`
		return string(bundleFrom(content, publicKey).Payload)
	}
	provenance := statementWith(subject("sha256", sum, ""), "https://slsa.dev/provenance/v1", `{"Digest":1,"digest":2}`)
	config := `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["` +
		other.String() + `"]},"config":{"Cmd":["/x"]}}`
	both := subject("sha256", other.Encoded(), "") + "," + subject("sha256", sum, "")
	tar := strings.Repeat("\x00", 1024)
	good := payload(image.String())
	encoded := base64.StdEncoding.EncodeToString([]byte(statementOf(sum)))
	for name, tt := range map[string]struct {
		mediaType, blob string
		ok              bool
	}{
		"signature":                      {MediaTypeSimpleSigning, good, true},
		"signature with a line end":      {MediaTypeSimpleSigning, good + "\n", true},
		"signature naming another image": {MediaTypeSimpleSigning, payload(other.String()), false},
		"signature naming nothing":       {MediaTypeSimpleSigning, payload(""), false},
		"signature naming no digest":     {MediaTypeSimpleSigning, payload("latest"), false},
		"signature naming it in upper case": {
			MediaTypeSimpleSigning,
			payload("sha256:" + strings.ToUpper(sum)),
			false,
		},
		"signature of another type": {
			MediaTypeSimpleSigning,
			strings.Replace(good, "cosign container", "atomic container", 1),
			false,
		},
		"signature, then a tar":            {MediaTypeSimpleSigning, good + tar, false},
		"signature, then one byte":         {MediaTypeSimpleSigning, good + "\x00", false},
		"signature, then another":          {MediaTypeSimpleSigning, good + good, false},
		"a tar that starts with {}":        {MediaTypeSimpleSigning, "{}" + tar, false},
		"empty object as a signature":      {MediaTypeSimpleSigning, "{}", false},
		"nothing as a signature":           {MediaTypeSimpleSigning, "", false},
		"a gzip as a signature":            {MediaTypeSimpleSigning, "\x1f\x8b\x08\x00", false},
		"an image's config as a signature": {MediaTypeSimpleSigning, config, false},
		"an image's manifest as a signature": {
			MediaTypeSimpleSigning,
			`{"schemaVersion":2,"config":{},"layers":[]}`,
			false,
		},
		"a bundle as a signature": {MediaTypeSimpleSigning, bundle(statementOf(sum)), false},
		"signature with critical twice": {
			MediaTypeSimpleSigning,
			strings.Replace(good, "{", `{"critical":{},`, 1),
			false,
		},
		"attestation": {MediaTypeDSSE, dsse(inToto, provenance), true},
		"attestation of several images": {
			MediaTypeDSSE,
			dsse(inToto, statementWith(both, "x", "{}")),
			true,
		},
		"attestation of another image": {MediaTypeDSSE, dsse(inToto, statementOf(other.Encoded())), false},
		"attestation of nothing":       {MediaTypeDSSE, dsse(inToto, statementWith("", "x", "{}")), false},
		"attestation under a foreign algorithm": {
			MediaTypeDSSE,
			dsse(inToto, statementWith(subject("gitCommit", sum, ""), "x", "{}")),
			false,
		},
		"attestation of this and of nonsense": {
			MediaTypeDSSE,
			dsse(inToto, statementWith(subject("sha256", sum, "")+","+subject("sha256", "../x", ""), "x", "{}")),
			false,
		},
		"DSSE of another payload type": {
			MediaTypeDSSE,
			dsse("application/octet-stream", statementOf(sum)),
			false,
		},
		"DSSE of no payload type":       {MediaTypeDSSE, dsse("", statementOf(sum)), false},
		"DSSE around an image's config": {MediaTypeDSSE, dsse(inToto, config), false},
		"DSSE around a statement without a type": {
			MediaTypeDSSE,
			dsse(inToto, strings.Replace(statementOf(sum), "_type", "_typ", 1)),
			false,
		},
		"DSSE around a tar":                   {MediaTypeDSSE, dsse(inToto, tar), false},
		"DSSE around a statement, then a tar": {MediaTypeDSSE, dsse(inToto, statementOf(sum)+tar), false},
		"DSSE around a signature's payload":   {MediaTypeDSSE, dsse(inToto, good), false},
		"DSSE, then a tar":                    {MediaTypeDSSE, dsse(inToto, statementOf(sum)) + tar, false},
		"DSSE with a field more": {
			MediaTypeDSSE,
			strings.Replace(dsse(inToto, statementOf(sum)), "{", `{"tar":"AAAA",`, 1),
			false,
		},
		"DSSE with a payload twice": {
			MediaTypeDSSE,
			strings.Replace(dsse(inToto, statementOf(sum)), "{", `{"payload":"AAAA",`, 1),
			false,
		},
		"DSSE with a payload in two cases": {
			MediaTypeDSSE,
			strings.Replace(dsse(inToto, statementOf(sum)), "{", `{"Payload":"AAAA",`, 1),
			false,
		},
		"DSSE without signatures": {
			MediaTypeDSSE,
			`{"payloadType":"` + inToto + `","payload":"` + encoded + `","signatures":[]}`,
			false,
		},
		"DSSE without its payload": {
			MediaTypeDSSE,
			`{"payloadType":"` + inToto + `","signatures":[{"sig":"AAAA"}]}`,
			false,
		},
		"DSSE whose payload is not base64": {
			MediaTypeDSSE,
			`{"payloadType":"` + inToto + `","payload":"%","signatures":[{"sig":"AAAA"}]}`,
			false,
		},
		"a bundle as DSSE":                  {MediaTypeDSSE, bundle(statementOf(sum)), false},
		"an image's config as DSSE":         {MediaTypeDSSE, config, false},
		"bundle":                            {bundleV03, bundle(statementOf(sum)), true},
		"bundle of an attestation":          {bundleV03, bundle(provenance), true},
		"bundle of a message":               {bundleV03, message(image), true},
		"bundle of another message":         {bundleV03, message(other), false},
		"bundle of a message, digest short": {bundleV03, message(image[:len(image)-2]), false},
		"bundle of another image":           {bundleV03, bundle(statementOf(other.Encoded())), false},
		"bundle without a media type": {
			bundleV03,
			strings.Replace(bundle(statementOf(sum)), `"mediaType":"`+bundleV03+`",`, "", 1),
			false,
		},
		"bundle with another media type": {
			bundleV03,
			strings.Replace(bundle(statementOf(sum)), bundleV03, MediaTypeDSSE, 1),
			false,
		},
		"bundle without material": {
			bundleV03,
			strings.Replace(bundle(statementOf(sum)), `"verificationMaterial":{`+publicKey+`},`, "", 1),
			false,
		},
		"bundle without content": {
			bundleV03,
			`{"mediaType":"` + bundleV03 + `","verificationMaterial":{` + publicKey + `}}`,
			false,
		},
		"bundle with a field more": {
			bundleV03,
			strings.Replace(bundle(statementOf(sum)), "{", `{"tar":"AAAA",`, 1),
			false,
		},
		"bundle of another payload type": {
			bundleV03,
			string(bundleFrom(envelope(t, key, "text/plain", statementOf(sum)), publicKey).Payload),
			false,
		},
		"bundle, then a tar":                  {bundleV03, bundle(statementOf(sum)) + tar, false},
		"DSSE as a bundle":                    {bundleV03, dsse(inToto, statementOf(sum)), false},
		"signature as a bundle":               {bundleV03, good, false},
		"an image's config as a bundle":       {bundleV03, config, false},
		"empty object as a bundle":            {bundleV03, "{}", false},
		"null as a bundle":                    {bundleV03, "null", false},
		"signature as an image's layer":       {"application/vnd.oci.image.layer.v1.tar+gzip", good, false},
		"signature without a media type":      {"", good, false},
		"signature under the config's type":   {configImage, good, false},
		"signature, its type in another case": {strings.ToUpper(MediaTypeSimpleSigning), good, false},
		"bundle of one with a statement too deep": {
			bundleV03,
			bundle(statementWith(subject("sha256", sum, ""), "x", strings.Repeat("[", 100)+strings.Repeat("]", 100))),
			false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := CheckLayer(Blob{MediaType: tt.mediaType}, []byte(tt.blob), image)
			if (err == nil) != tt.ok {
				t.Errorf("attached to its image: %v", err)
			}
			if err == nil && CheckLayer(Blob{MediaType: tt.mediaType}, []byte(tt.blob), other) == nil &&
				!strings.Contains(name, "several") {
				t.Error("passes as attached to another image too")
			}
			if err == nil && CheckLayer(Blob{MediaType: tt.mediaType}, []byte(tt.blob), "") != nil {
				t.Error("does not pass under a tag")
			}
		})
	}
}

func unhex(c byte) byte { return byte(bytes.IndexByte([]byte("0123456789abcdef"), c)) }

// TestLayerUnderTag: under a .sig tag the image is not known, but what the
// payload names must still be a digest.
func TestLayerUnderTag(t *testing.T) {
	t.Parallel()
	for d, ok := range map[string]bool{
		digest.FromString("x").String():        true,
		digest.SHA512.FromString("x").String(): true,
		"":                                     false,
		"latest":                               false,
		"sha256:":                              false,
		"sha256:abc":                           false,
		"md5:" + strings.Repeat("a", 32):       false,
		"sha256:" + strings.Repeat("A", 64):    false,
		"sha256:" + strings.Repeat("a", 65):    false,
		"../../etc/passwd":                     false,
	} {
		t.Run(d, func(t *testing.T) {
			err := CheckLayer(Blob{MediaType: MediaTypeSimpleSigning}, []byte(payload(d)), "")
			if (err == nil) != ok {
				t.Error(err)
			}
		})
	}
}

// tarHeader makes the first 512 bytes of a document a header of the oldest tar
// format: a checksum at byte 148 and a type at byte 156; blanks are zeros.
func tarHeader(t *testing.T, kind byte, before, after string) string {
	t.Helper()
	b := []byte(before + strings.Repeat(" ", 156-len(before)) + string(kind) + after)
	b = append(b, strings.Repeat(" ", max(0, 512-len(b)))...)
	sum := 0
	for _, c := range b[:512] {
		sum += int(c)
	}
	// The sum is taken with blanks in its own field.
	copy(b[148:], fmt.Sprintf("%07o", sum))
	return string(b)
}

// checksummed writes the checksum of archive's first block anew, with more added.
func checksummed(t *testing.T, archive, format string, more int) string {
	t.Helper()
	b := []byte(archive)
	copy(b[148:156], "        ")
	sum := more
	for _, c := range b[:512] {
		sum += int(c)
	}
	if n := copy(b[148:], fmt.Sprintf(format, sum)); n != 8 {
		t.Fatalf("a field of %d bytes", n)
	}
	return string(b)
}

func TestTarPolyglot(t *testing.T) {
	t.Parallel()
	image := digest.FromString("an image")
	document := payload(image.String())
	critical := `"},` + document[1:strings.Index(document, `,"optional"`)] + "}"
	archive := tarHeader(t, '0', `{"optional":{"x":"`, critical)
	if err := oci.CheckStrict([]byte(archive), maxDepth, maxTokens); err != nil {
		t.Fatalf("the archive is no document: %v", err)
	}
	if _, err := tar.NewReader(strings.NewReader(archive)).Next(); err != nil {
		t.Fatalf("the document is no archive: %v", err)
	}
	spoilt := strings.Replace(archive, `"x"`, `"y"`, 1) // another checksum
	for name, tt := range map[string]struct {
		blob string
		ok   bool
	}{
		"an archive": {archive, false},
		"an archive in the second block": {
			document[:1] + strings.Repeat(" ", 511) + tarHeader(t, '0', `"optional":{"x":"`, critical),
			false,
		},
		"the checksum is wrong": {spoilt, true},
		"a mode that is no number": {
			tarHeader(t, '0', `{"optional":{"x":"`+strings.Repeat("a", 82)+"zzzzzzzz", critical),
			false,
		},
		"a size that is no number": {
			tarHeader(t, '0', `{"optional":{"x":"`+strings.Repeat("a", 106)+"zzzzzzzzzzzz", critical),
			false,
		},
		"a checksum behind blanks": {checksummed(t, archive, "  %05o ", 0), false},
		"a checksum of six digits": {checksummed(t, archive, "%06o  ", 0), false},
		"a signed checksum":        {checksummed(t, strings.Replace(archive, "  ", "é", 1), "%07o ", -512), false},
		"a checksum one more":      {checksummed(t, archive, "%07o ", 1), true},
		"a checksum in decimal":    {checksummed(t, archive, "%07d ", 0), true},
	} {
		t.Run(name, func(t *testing.T) {
			if err := oci.CheckStrict([]byte(tt.blob), maxDepth, maxTokens); err != nil {
				t.Fatalf("no document: %v", err)
			}
			err := CheckLayer(Blob{MediaType: MediaTypeSimpleSigning}, []byte(tt.blob), image)
			if (err == nil) != tt.ok {
				t.Error(err)
			}
		})
	}
}

// TestTarHeaderCost: a client that may push chooses these bytes, up to
// limits.payloadBytes (8 MiB). A tar header of type x says how many bytes to read
// after it: reading them anew for every block takes seconds.
func TestTarHeaderCost(t *testing.T) {
	header := tarHeader(t, 'x', "name"+strings.Repeat(" ", 96)+"0000644 0000000 0000000 00004000000 00000000000 ", "")
	blob := []byte(strings.Repeat(header, 2<<20/len(header)))
	fastest := time.Hour
	for range 5 { // a busy machine slows one of them, not each
		start := time.Now()
		if CheckLayer(Blob{MediaType: MediaTypeSimpleSigning}, blob, "") == nil {
			t.Error("passes")
		}
		fastest = min(fastest, time.Since(start))
	}
	if fastest > 500*time.Millisecond {
		t.Errorf("%d MiB took %v", len(blob)>>20, fastest)
	}
}
