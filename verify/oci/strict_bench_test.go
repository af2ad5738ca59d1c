package oci

import (
	"encoding/base64"
	"strings"
	"testing"
)

// Bounds as on one signature.
const (
	maxDepth  = 16
	maxTokens = 10_000
)

// BenchmarkCheckStrict reads what the pusher of a signature can make the gate read: near the largest
// payload and the most tokens there may be.
func BenchmarkCheckStrict(b *testing.B) {
	entry := `{"logIndex":"1","kindVersion":{"kind":"dsse"},"canonicalizedBody":"` + base64.StdEncoding.EncodeToString(
		make([]byte, 6<<10),
	) + `"},`
	for name, text := range map[string]string{
		"few tokens":   `{"tlogEntries":[` + strings.Repeat(entry, 31) + strings.TrimSuffix(entry, ",") + `]}`,
		"many objects": `{"rfc3161Timestamps":[` + strings.Repeat(`{},`, 4900) + `{}]}`,
	} {
		for by, check := range map[string]func([]byte) bool{
			"scanner":       func(t []byte) bool { return CheckStrict(t, maxDepth, maxTokens) == nil },
			"encoding/json": func(t []byte) bool { return strictByTokens(t, maxDepth, maxTokens) },
		} {
			b.Run(name+"/"+by, func(b *testing.B) {
				document := []byte(text)
				b.SetBytes(int64(len(document)))
				b.ReportAllocs()
				for b.Loop() {
					if !check(document) {
						b.Fatal("refused")
					}
				}
			})
		}
	}
}
