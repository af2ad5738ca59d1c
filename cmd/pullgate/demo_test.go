package main

import (
	"bytes"
	"strings"
	"testing"
)

// The newcomer's first command does what the README says it does.
func TestDemo(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	if err := run(t.Context(), []string{"demo", "--once"}, &out, &errs); err != nil {
		t.Fatalf("%v\n%s%s", err, out.String(), errs.String())
	}
	if strings.Count(out.String(), "200 OK") != 2 || !strings.Contains(out.String(), "no signature found") {
		t.Errorf("it printed\n%s", out.String())
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	if err := run(t.Context(), []string{"--help"}, &out, &errs); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"serve", "demo", "check", "verify", "warm", "version"} {
		if !strings.Contains(out.String(), "\n  "+name) {
			t.Errorf("the manual does not list %s", name)
		}
	}
}
