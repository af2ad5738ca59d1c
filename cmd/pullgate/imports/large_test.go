package imports

import (
	"fmt"
	"strings"
	"testing"
)

// What pullgate would not read is not printed.
func TestOutputSize(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"default": [{"type": "reject"}], "transports": {"docker": {`)
	for i := range 45_000 {
		fmt.Fprintf(&b, "\"r.example/%d\": [{\"type\": \"reject\"}],\n", i)
	}
	b.WriteString(`"r.example": [{"type": "reject"}]}}}`)
	if b.Len() > MaxFile {
		t.Fatalf("%d bytes are refused before", b.Len())
	}
	if result := Convert("policy.json", []File{{"policy.json", []byte(b.String())}}); len(result.Problems) == 0 {
		t.Errorf("%d bytes were printed", len(result.YAML))
	}
}
