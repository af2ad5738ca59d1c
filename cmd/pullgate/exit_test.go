package main

import (
	"testing"

	"github.com/pullgate/pullgate/cmd/pullgate/exit"
	"github.com/pullgate/pullgate/test/rig"
)

// TestNothingJudged: a command that could not begin exits as one that could not
// tell. A pipeline takes 1 for a verdict.
func TestNothingJudged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	none := dir + "/none"
	good := rig.Write(t, dir, "good.yaml", "upstreams: [{host: a.example}]\n")
	bad := rig.Write(t, dir, "bad.yaml", "upstreams: [{host: a.example}]\npolicies: [{name: x}]\n")
	torn := rig.Write(t, dir, "torn.yaml", "upstreams: [\n")
	text := rig.Write(t, dir, "text", "no key\n")
	cases := rig.Write(t, dir, "cases.yaml", "cases: [{image: a.example/b, outcome: allowed}]\n")

	for name, row := range map[string]struct {
		args []string
		want int
	}{
		"check":                      {[]string{"check", "-c", good}, 0},
		"check, bad":                 {[]string{"check", "-c", bad}, exit.Denied}, // it was judged
		"check, torn":                {[]string{"check", "-c", torn}, exit.Denied},
		"check, missing":             {[]string{"check", "-c", none}, exit.CouldNotTell},
		"check, folder":              {[]string{"check", "-c", dir}, exit.CouldNotTell},
		"serve, missing":             {[]string{"serve", "-c", none}, exit.CouldNotTell},
		"serve, bad":                 {[]string{"serve", "-c", bad}, exit.CouldNotTell},
		"verify, missing":            {[]string{"verify", "a.example/b", "-c", none}, exit.CouldNotTell},
		"verify, bad":                {[]string{"verify", "a.example/b", "-c", bad}, exit.CouldNotTell},
		"verify, missing key":        {[]string{"verify", "a.example/b", "--key", none}, exit.CouldNotTell},
		"verify, no key":             {[]string{"verify", "a.example/b", "--key", text}, exit.CouldNotTell},
		"verify, no name":            {[]string{"verify", "A B", "-c", good}, exit.CouldNotTell},
		"explain, bad":               {[]string{"explain", "a.example/b", "-c", bad}, exit.CouldNotTell},
		"replay, torn":               {[]string{"replay", "-c", torn}, exit.CouldNotTell},
		"replay, missing decisions":  {[]string{"replay", "-c", good, "--decisions", none}, exit.CouldNotTell},
		"warm, bad":                  {[]string{"warm", "a.example/b", "-c", bad}, exit.CouldNotTell},
		"test, bad":                  {[]string{"test", cases, "-c", bad}, exit.CouldNotTell},
		"test, missing cases":        {[]string{"test", none, "-c", good}, exit.CouldNotTell},
		"test, no cases":             {[]string{"test", text, "-c", good}, exit.CouldNotTell},
		"sign, missing key":          {[]string{"sign", "a.example/b", "--key", none}, exit.CouldNotTell},
		"sign, no key":               {[]string{"sign", "a.example/b", "--key", text}, exit.CouldNotTell},
		"sign, unknown format":       {[]string{"sign", "a.example/b", "--format", "x"}, exit.CouldNotTell},
		"import, missing":            {[]string{"import", "kyverno", none}, exit.CouldNotTell},
		"import, no policies":        {[]string{"import", "kyverno", text}, exit.Denied},
		"node-config, no runtime":    {[]string{"node-config", "rkt", "--gate", "http://a:1"}, exit.CouldNotTell},
		"node-config, no gate":       {[]string{"node-config", "podman"}, exit.CouldNotTell},
		"doctor, nothing":            {[]string{"doctor", "podman"}, exit.CouldNotTell},
		"doctor, bad configuration":  {[]string{"doctor", "podman", "-c", torn}, exit.CouldNotTell},
		"generate-key-pair, no file": {[]string{"generate-key-pair", "-o", none + "/x"}, exit.CouldNotTell},
		"unknown command":            {[]string{"verfy"}, exit.CouldNotTell},
		"unknown flag":               {[]string{"check", "--strickt"}, exit.CouldNotTell},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if code, out := commandExit(t, row.args...); code != row.want {
				t.Errorf("exit %d, want %d: %s", code, row.want, out)
			}
		})
	}
}
