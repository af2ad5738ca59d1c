package replicas

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/pullgate/pullgate/test/pgtest"
)

// fault is one way in which the database goes away, and how it comes back.
type fault struct {
	name  string
	begin func(t *testing.T, w *way)
	end   func(t *testing.T, w *way)
}

// way is the database and the network before it.
type way struct {
	db    *pgtest.Server
	addr  string // that the gates know
	proxy *toxiproxy.Proxy
}

func startWay(t *testing.T) *way {
	t.Helper()
	w := &way{db: startDatabase(t), addr: freeAddr(t)}
	w.with(t)
	t.Cleanup(func() { w.proxy.Stop() })
	return w
}

// with lets new connections have these toxics and cuts the old ones.
func (w *way) with(t *testing.T, toxics ...string) {
	t.Helper()
	if w.proxy != nil {
		w.proxy.Stop()
	}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	w.proxy = toxiproxy.NewProxy(server, "database", w.addr, "127.0.0.1:"+w.db.Port)
	for _, toxic := range toxics {
		if _, err := w.proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
			t.Fatalf("toxic %s: %v", toxic, err)
		}
	}
	if err := w.proxy.Start(); err != nil {
		t.Fatal(err)
	}
}

func well(t *testing.T, w *way) { t.Helper(); w.with(t) }

func latency(d time.Duration) string {
	return fmt.Sprintf(`{"type": "latency", "stream": "downstream", "attributes": {"latency": %d}}`, d.Milliseconds())
}

// lies are other parents, some of which exist, other manifests and other evidence,
// in place of what the gates have written.
const lies = `
UPDATE pullgate_lists l SET digests = CASE (random() * 4)::int
	WHEN 0 THEN decode(md5(random()::text), 'hex')
	WHEN 1 THEN '\x2101'::bytea || sha256(random()::text::bytea)
	WHEN 2 THEN ''::bytea
	ELSE coalesce((SELECT o.digests FROM pullgate_lists o WHERE o.key > l.key AND o.key <> '\x00' LIMIT 1), l.digests)
	END WHERE key <> '\x00';
UPDATE pullgate_records r SET value = CASE (random() * 2)::int
	WHEN 0 THEN decode(md5(random()::text), 'hex')
	ELSE coalesce((SELECT o.value FROM pullgate_records o WHERE o.key > r.key LIMIT 1), r.value)
	END;
`

var faults = []fault{
	{
		"stopped",
		func(t *testing.T, w *way) { w.db.Stop(t) },
		func(t *testing.T, w *way) { w.db.Up(t) },
	},
	{
		"frozen",
		func(t *testing.T, w *way) { w.db.Pause(t) },
		func(t *testing.T, w *way) { w.db.Resume(t) },
	},
	{
		"read-only",
		func(t *testing.T, w *way) { w.db.ReadOnly(t, "on") },
		func(t *testing.T, w *way) { w.db.ReadOnly(t, "off") },
	},
	{
		"restarted empty",
		func(t *testing.T, w *way) {
			w.db.Kill(t)
			w.db.Init(t)
			w.db.Up(t)
		},
		func(*testing.T, *way) {},
	},
	{
		"emptied",
		func(t *testing.T, w *way) {
			w.db.SQL(t, "TRUNCATE pullgate_lists, pullgate_records, pullgate_replicas")
		},
		func(*testing.T, *way) {},
	},
	{
		"connections ended",
		func(t *testing.T, w *way) {
			for range 20 {
				w.db.SQL(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "+
					"AND application_name = 'pullgate'")
				time.Sleep(50 * time.Millisecond)
			}
		},
		func(*testing.T, *way) {},
	},
	{
		"slow",
		func(t *testing.T, w *way) { w.with(t, latency(300*time.Millisecond)) },
		well,
	},
	{
		"resets",
		func(t *testing.T, w *way) {
			w.with(t, `{"type": "reset_peer", "toxicity": 0.5, "attributes": {"timeout": 10}}`,
				`{"type": "limit_data", "toxicity": 0.5, "attributes": {"bytes": 4000}}`)
		},
		well,
	},
	{
		"filled with lies",
		func(t *testing.T, w *way) {
			w.db.SQL(t, "UPDATE pullgate_lists SET at = now() - interval '1 hour' WHERE key = '\\x00'")
			for range 10 {
				w.db.SQL(t, lies)
				time.Sleep(300 * time.Millisecond)
			}
		},
		func(*testing.T, *way) {},
	},
	{
		"refused",
		func(_ *testing.T, w *way) { w.proxy.Stop() },
		well,
	},
}

// TestFaults: while the database is away, slow, empty or cannot be written, nothing
// is served that is to be refused, nothing is refused that is signed, and what a gate
// knows it goes on serving. Afterwards every gate serves everything again.
func TestFaults(t *testing.T) {
	w := startWay(t)
	f := startFleet(t, 3, pgtest.URL(w.addr))
	known := f.warmUp(t, 4)
	var unsigned []image
	for range 3 {
		unsigned = append(unsigned, f.push(false))
	}

	for _, one := range faults {
		t.Run(one.name, func(t *testing.T) {
			cold := f.pushMany(400)
			l := f.start(known, cold, unsigned)
			time.Sleep(300 * time.Millisecond)
			one.begin(t, w)
			time.Sleep(4 * time.Second)
			for _, g := range f.gates {
				if status := g.ready(); status != 200 {
					t.Errorf("/readyz is %d", status)
				}
			}
			one.end(t, w)
			time.Sleep(time.Second)
			l.end(t)

			left := l.unfinished
			f.settle(t, left[:min(3, len(left))])
		})
	}
}
