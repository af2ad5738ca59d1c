package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// crashes is how often the gate is killed.
const crashes = 100

// TestKilledBetweenIndexAndChild kills the gate at random points while clients
// pull. Whoever has got an index must get its children, configs and layers from
// the gate that comes after: facts are on disk before the first byte is sent.
func TestKilledBetweenIndexAndChild(t *testing.T) {
	need(t, "distribution", "cosign-v2")
	registry := startDistribution(t)
	key, public := keyPair(t)
	const images = 12
	for i := range images {
		d := pushIndex(t, fmt.Sprintf("%s/crash/app%d:v1", registry, i), 200_000)
		signers["v2 legacy"](t, key, fmt.Sprintf("%s/crash/app%d@%s", registry, i, d))
	}
	g := startGate(t, registry, public)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var clients sync.WaitGroup
	var whole atomic.Int64 // pulls
	for n := range 8 {
		clients.Go(func() {
			for i := n; ctx.Err() == nil; i++ {
				if err := pullThroughCrashes(
					ctx,
					g.addr,
					fmt.Sprintf("reg.test/crash/app%d", i%images),
				); err != nil &&
					ctx.Err() == nil {
					t.Errorf("client %d: %v", n, err)
					break
				}
				whole.Add(1)
			}
		})
	}

	// A slow machine gets through fewer pulls between two kills.
	kills := 0
	for begun := time.Now(); kills < crashes || whole.Load() < 20 && time.Since(begun) < 5*time.Minute; kills++ {
		time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
		g.kill(t)
		g.up(t)
	}
	time.Sleep(200 * time.Millisecond)
	stop()
	clients.Wait()

	t.Logf("%d whole pulls through %d kills", whole.Load(), kills)
	if whole.Load() < 20 {
		t.Errorf("only %d pulls got through: the test shows nothing", whole.Load())
	}
}

// pullThroughCrashes pulls a whole image, asking again whenever the connection
// breaks. Any answer but 200 is an error: a part of an index that was served
// must never be unknown.
func pullThroughCrashes(ctx context.Context, gate, image string) error {
	index, err := fetch(ctx, gate, image+"/manifests/v1")
	if err != nil {
		return err
	}
	var list struct{ Manifests []struct{ Digest string } }
	if err := json.Unmarshal(index, &list); err != nil {
		return fmt.Errorf("%s: %w", image, err)
	}
	for _, child := range list.Manifests {
		b, err := fetch(ctx, gate, image+"/manifests/"+child.Digest)
		if err != nil {
			return err
		}
		var m struct {
			Config struct{ Digest string }
			Layers []struct{ Digest string }
		}
		if err := json.Unmarshal(b, &m); err != nil {
			return fmt.Errorf("%s: %w", child.Digest, err)
		}
		for _, blob := range append(m.Layers, m.Config) {
			b, err := fetch(ctx, gate, image+"/blobs/"+blob.Digest)
			if err != nil {
				return err
			}
			if sum := sha256.Sum256(b); "sha256:"+hex.EncodeToString(sum[:]) != blob.Digest {
				return fmt.Errorf("blob %s arrived as something else", blob.Digest)
			}
		}
	}
	return nil
}

func fetch(ctx context.Context, gate, what string) ([]byte, error) {
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+gate+"/v2/"+what, nil)
		if err != nil {
			return nil, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			var body []byte
			body, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err == nil && resp.StatusCode != http.StatusOK {
				return nil, fmt.Errorf("%s: %s: %.300s", what, resp.Status, body)
			}
			if err == nil {
				return body, nil
			}
		}
		select { // the gate is down: a client tries again
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}
