package trust

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"time"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/sigs"
)

const (
	keyRefresh  = time.Hour
	maxMaterial = 8 << 20 // bytes of one root
)

// source is one root or key. Keeper.mu guards its lower half.
type source struct {
	id     string // of its definition; a file name
	name   string // for people: "trust root corp"
	root   string // the root's name; empty for a key
	key    string // the key's reference; empty for a root
	folder bool   // it lies on this machine's disk
	fetch  func(context.Context) ([]byte, error)

	used     bool          // by the configuration that was last asked for
	every    time.Duration // from one refresh to the next
	good     []byte        // nil: it has not been loaded
	at       time.Time     // when good was last confirmed; zero: it came with the program
	due      time.Time
	asked    time.Time // when the last refresh began
	failures int       // in a row
}

func rootSource(r policy.TrustRoot, c Config) *source {
	t := r.TUF
	id := identify("root", t.Mirror, t.Directory, t.Target, string(t.Root))
	cache := ""
	if c.Dir != "" && !c.Frozen {
		cache = filepath.Join(c.Dir, id+".tuf")
	}

	return &source{
		id:     id,
		name:   "trust root " + r.Name,
		root:   r.Name,
		folder: t.Directory != "",
		fetch:  func(ctx context.Context) ([]byte, error) { return fetchTUF(ctx, t, cache, c.Client) },
		every:  t.Refresh,
	}
}

func keySource(reference string) *source {
	return &source{
		id:    identify("key", reference),
		name:  "key " + reference,
		key:   reference,
		fetch: func(ctx context.Context) ([]byte, error) { return fetchKey(ctx, reference) },
		every: keyRefresh,
	}
}

// identify names a source by everything that defines it. Changed bytes here
// would orphan what is kept on disk.
func identify(kind string, parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}

	return kind + "-" + hex.EncodeToString(h.Sum(nil))[:32]
}

// ask fetches and checks; a source that panics has failed.
func (s *source) ask(ctx context.Context) (text []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			text, err = nil, fmt.Errorf("%s: %v", s.name, p)
		}
	}()

	if text, err = s.fetch(ctx); err == nil {
		err = s.check(text)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return text, nil
}

// check reports whether text is what the source should give.
func (s *source) check(text []byte) error {
	if len(text) > maxMaterial {
		return fmt.Errorf("it is larger than %d MiB", maxMaterial>>20)
	}

	if s.root != "" {
		_, err := sigs.ParseRoot(s.root, text)
		return err
	}
	_, err := policy.ParseKey(text)
	return err
}
