package profiles_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/pullgate/pullgate/test/profiles"
)

// TestMain puts the internet of these tests into the environment, where the gate's
// HTTP client looks for a proxy.
func TestMain(m *testing.M) { os.Exit(run(m)) }

// internet is where every gate of these tests finds its registry.
var internet = mustInternet()

func mustInternet() *profiles.Internet {
	n, err := profiles.NewInternet()
	if err != nil {
		panic(err)
	}
	return n
}

func run(m *testing.M) int {
	defer internet.Close()
	for name, value := range map[string]string{
		"HTTP_PROXY":  internet.ProxyURL(),
		"HTTPS_PROXY": internet.ProxyURL(),
		"NO_PROXY":    "",
		"no_proxy":    "",
	} {
		if err := os.Setenv(name, value); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return m.Run()
}
