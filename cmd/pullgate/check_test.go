package main

import (
	"bytes"
	"strconv"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/cmd/pullgate/exit"
)

func TestCheckCommand(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	_, key := publicKey(t)
	dir := t.TempDir()
	writeIn(t, dir, "a.pub", key)
	good := writeIn(
		t,
		dir,
		"good.yaml",
		"upstreams: [{host: a.example}]\npolicies: [{name: x, images: ['a.example/**'], authorities: [{key: "+
			"a.pub}]}]\n",
	)
	if err := run(t.Context(), []string{"check", "--config", good}, &out, &errs); err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	if !strings.Contains(out.String(), "1 policy") {
		t.Errorf("it says %q", out.String())
	}
	bad := writeIn(t, dir, "bad.yaml", "mode: off\nupstreams: [{host: a.example}]\npolicies: [{name: x}]\n")
	err := run(t.Context(), []string{"check", "--config", bad}, &out, &errs)
	if exit.Code(err) != exit.Denied {
		t.Fatalf("bad configuration: %v", err)
	}
	for _, line := range []int{1, 3} {
		if want := bad + ":" + strconv.Itoa(line) + ":"; !strings.Contains(errs.String(), want) {
			t.Errorf("no problem at %s in\n%s", want, errs.String())
		}
	}
}
