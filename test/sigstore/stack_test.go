package sigstore

import (
	"os"
	"os/exec"
	"testing"
)

// start brings up a stack for one test, or skips it where the programs are missing.
func startStack(t *testing.T) *Stack {
	t.Helper()
	for _, tool := range Needs {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("PULLGATE_E2E") == "1" {
				t.Fatalf("%s is missing; .ci/install says how to get it", tool)
			}
			t.Skipf("it needs %s; .ci/install says how to get it", tool)
		}
	}
	s, err := Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestX(t *testing.T) { startStack(t) }
