package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/policy"
)

// indexBytes is the size of the index that is asked for: that of many a real
// index of two platforms.
const indexBytes = 607

// warmed asks until the gate answers from memory: what it has just learnt is
// taken up by its caches a moment later.
func warmed(ctx context.Context, urls ...string) error {
	for _, url := range urls {
		for range 50 {
			if err := must(ctx, http.DefaultClient, url); err != nil {
				return err
			}
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}

func measureWarm(ctx context.Context, l *lab) error {
	img, err := l.push.image(ctx, "acme/warm", []byte("warm"), indexBytes, true)
	if err != nil {
		return err
	}
	gate, _, err := l.gate(ctx, gateConfig{name: "warm"})
	if err != nil {
		return err
	}
	defer gate.stop()
	remembers, _, err := l.gate(ctx, gateConfig{name: "warm-ttl", tagTTL: 10 * time.Second})
	if err != nil {
		return err
	}
	defer remembers.stop()
	body := filepath.Join(l.dir, "index.json")
	if err := os.WriteFile(body, img.index, 0o600); err != nil {
		return err
	}
	handler, err := l.self(ctx, "bare", body, img.indexDigest.String())
	if err != nil {
		return err
	}
	defer handler.stop()
	byDigest := "/v2/" + host + "/acme/warm/manifests/" + img.indexDigest.String()
	byTag := "/v2/" + host + "/acme/warm/manifests/latest"
	// Order is the order of every round; the gate stands beside what it is compared with.
	targets := []target{
		{"gate by digest", gate.base + byDigest, gate},
		{"bare handler", handler.base + "/", handler},
		{"gate by tag", gate.base + byTag, gate},
		{"gate by tag, tagTTL 10s", remembers.base + byTag, remembers},
	}
	if err := warmed(ctx, gate.base+byDigest, handler.base+"/", gate.base+byTag, remembers.base+byTag); err != nil {
		return err
	}
	peer, peerErr := l.distribution(ctx, img)
	if peerErr == nil {
		defer peer.stop()
		targets = append(targets, target{
			"distribution",
			peer.base + "/v2/acme/warm/manifests/" + img.indexDigest.String(),
			peer,
		})
		if err := warmed(ctx, targets[4].url); err != nil {
			return err
		}
	}
	heads, err := l.heads(ctx)
	if err != nil {
		return err
	}
	got, err := l.rates(ctx, targets)
	if err != nil {
		return err
	}
	after, err := l.heads(ctx)
	if err != nil {
		return err
	}
	add := func(what string, i, against int, more string) {
		middle, spread := ratio(got[i].rate, got[against].rate)
		l.table.add(
			what,
			number(median(got[i].rate))+"/s",
			targets[against].name+" "+number(median(got[against].rate))+"/s",
			middle,
			spread+more,
		)
	}
	add("index by digest", 0, 1, "")
	middle, spread := ratio(got[0].cost, got[1].cost)
	l.table.add(
		"CPU per index by digest",
		number(median(got[0].cost))+" µs",
		"bare handler "+number(median(got[1].cost))+" µs",
		middle,
		spread,
	)
	if peerErr == nil {
		add("index by digest", 0, 4, "; distribution answers from its own disk, without access log")
	}
	asked := 0.0
	for _, n := range got[2].rate {
		asked += n * l.span.Seconds()
	}
	add(
		"index by tag, tagTTL 0s",
		2,
		1,
		fmt.Sprintf("; one upstream HEAD for %s answers", number(asked/max(1, float64(after-heads)))),
	)
	if peerErr == nil {
		add("index by tag, tagTTL 0s", 2, 4, "; distribution asked by digest")
	} else {
		l.table.add("index by digest", "", "distribution", "", "not measured: "+peerErr.Error())
	}
	add("index by tag, tagTTL 10s", 3, 1, "")
	if l.before == "" {
		return nil
	}
	return l.compareWarm(ctx, targets[0], byDigest)
}

// compareWarm measures the gate beside an earlier one.
func (l *lab) compareWarm(ctx context.Context, now target, path string) error {
	gate, _, err := l.gate(ctx, gateConfig{name: "warm-before", binary: l.before})
	if err != nil {
		return err
	}
	defer gate.stop()
	then := target{"the gate before", gate.base + path, gate}
	if err := warmed(ctx, then.url); err != nil {
		return err
	}
	got, err := l.rates(ctx, []target{now, then})
	if err != nil {
		return err
	}
	middle, spread := ratio(got[0].rate, got[1].rate)
	l.table.add(
		"index by digest",
		number(median(got[0].rate))+"/s",
		then.name+" "+number(median(got[1].rate))+"/s",
		middle,
		spread,
	)
	middle, spread = ratio(got[0].cost, got[1].cost)
	l.table.add(
		"CPU per index by digest",
		number(median(got[0].cost))+" µs",
		then.name+" "+number(median(got[1].cost))+" µs",
		middle,
		spread,
	)
	return nil
}

// heads is how many HEADs the registry has answered.
func (l *lab) heads(ctx context.Context) (int64, error) {
	_, text, err := get(ctx, http.DefaultClient, l.registry.base+"/heads")
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(string(text), 10, 64)
}

// distribution starts the CNCF registry with the same index in it.
func (l *lab) distribution(ctx context.Context, img *image) (*process, error) {
	binary, err := exec.LookPath("distribution")
	if err != nil {
		return nil, fmt.Errorf("distribution is not in PATH")
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	text, err := yaml.Marshal(map[string]any{
		"version": "0.1",
		"log":     map[string]any{"level": "error", "accesslog": map[string]any{"disabled": true}},
		"storage": map[string]any{
			"filesystem": map[string]any{"rootdirectory": filepath.Join(l.dir, "distribution")},
		},
		"http":       map[string]any{"addr": addr},
		"validation": map[string]any{"manifests": map[string]any{"indexes": map[string]any{"platforms": "none"}}},
	})
	if err != nil {
		return nil, err
	}
	file := filepath.Join(l.dir, "distribution.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	p, err := l.start(exec.Command(binary, "serve", file), addr, "")
	if err != nil {
		return nil, err
	}
	if err := p.wait(ctx, "/v2/"); err != nil {
		return nil, err
	}
	there := push{base: p.base, key: l.push.key}
	return p, there.put(ctx, img.repo, "manifests", img.indexDigest.String(), indexType, img.index)
}

// measureAllocs reads them from the package's own benchmark, which runs the
// handler without a network and with the decision log and the metrics on.
func measureAllocs(ctx context.Context, l *lab) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "Warm", "-benchmem", "-count", "3", "./proxy")
	cmd.Dir = l.module
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("go test -bench: %w\n%s", err, out)
	}
	var allocs, size, nanos []float64
	for line := range bytes.Lines(out) {
		if !bytes.Contains(line, []byte("manifest_by_digest")) {
			continue
		}
		fields := bytes.Fields(line)
		for i := 1; i < len(fields); i++ {
			n, err := strconv.ParseFloat(string(fields[i-1]), 64)
			if err != nil {
				continue
			}
			switch string(fields[i]) {
			case "allocs/op":
				allocs = append(allocs, n)
			case "B/op":
				size = append(size, n)
			case "ns/op":
				nanos = append(nanos, n)
			}
		}
	}
	if len(allocs) == 0 {
		return fmt.Errorf("go test -bench said nothing of a manifest by digest:\n%s", out)
	}
	l.table.add(
		"allocations of a warm request by digest",
		number(median(allocs)),
		"",
		"",
		fmt.Sprintf(
			"%s bytes, %s µs in the handler, without net/http's own",
			number(median(size)),
			number(median(nanos)/1000),
		),
	)
	return nil
}

const manyPolicies = 10_000

// policyList is n policies for one repository prefix each.
func policyList(n int, key string) []map[string]any {
	list := make([]map[string]any, n)
	for i := range list {
		list[i] = map[string]any{
			"name":        fmt.Sprintf("team-%05d", i),
			"images":      []string{fmt.Sprintf("%s/team-%05d/**", host, i)},
			"authorities": []any{map[string]any{"name": "bench", "key": key}},
		}
	}
	return list
}

func measurePolicies(ctx context.Context, l *lab) error {
	match := func(n int) (nanos float64, loading time.Duration, err error) {
		var doc yaml.Node
		text, err := yaml.Marshal(policyList(n, l.keyFile))
		if err != nil {
			return 0, 0, err
		}
		if err := yaml.Unmarshal(text, &doc); err != nil {
			return 0, 0, err
		}
		began := time.Now()
		set, problems := policy.Load(policy.Input{Inline: doc.Content[0]})
		loading = time.Since(began)
		if len(problems) > 0 {
			return 0, 0, fmt.Errorf("%s", problems[0])
		}
		last := policy.Repository{Host: host, Path: fmt.Sprintf("team-%05d/app", n-1)} // the worst case
		r := testing.Benchmark(func(b *testing.B) {
			for b.Loop() {
				if set.For(last, "", policy.Client{}).Name == "" {
					b.Fatal("nothing matched")
				}
			}
		})
		return float64(r.T.Nanoseconds()) / float64(r.N), loading, nil
	}
	few, fewLoading, err := match(10)
	if err != nil {
		return err
	}
	many, manyLoading, err := match(manyPolicies)
	if err != nil {
		return err
	}
	l.table.add(
		"matching an image that the last of 10,000 policies is for",
		number(many/1000)+" µs",
		"10 policies "+number(few/1000)+" µs",
		number(many/few),
		"",
	)
	l.table.add(
		"loading 10,000 policies",
		number(manyLoading.Seconds()*1000)+" ms",
		"10 policies "+number(fewLoading.Seconds()*1000)+" ms",
		number(manyLoading.Seconds()/fewLoading.Seconds()),
		"every policy has the same key file",
	)

	img, err := l.push.image(ctx, "acme/policies", []byte("policies"), indexBytes, true)
	if err != nil {
		return err
	}
	var targets []target
	for _, n := range []int{manyPolicies, 10} {
		gate, _, err := l.gate(ctx, gateConfig{name: fmt.Sprintf("policies-%d", n), policies: policyList(n, l.keyFile)})
		if err != nil {
			return err
		}
		defer gate.stop()
		t := target{
			fmt.Sprintf("%d policies", n),
			gate.base + "/v2/" + host + "/acme/policies/manifests/" + img.indexDigest.String(),
			gate,
		}
		if err := warmed(ctx, t.url); err != nil {
			return err
		}
		targets = append(targets, t)
	}
	got, err := l.rates(ctx, targets)
	if err != nil {
		return err
	}
	middle, spread := ratio(got[0].rate, got[1].rate)
	l.table.add(
		"index by digest under 10,000 policies",
		number(median(got[0].rate))+"/s",
		"10 policies "+number(median(got[1].rate))+"/s",
		middle,
		spread,
	)
	return nil
}
