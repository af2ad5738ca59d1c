package replicas

import (
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pullgate/pullgate/test/pgtest"
)

// TestKilledReplica kills gates while clients pull through all of them.
func TestKilledReplica(t *testing.T) {
	f := startFleet(t, 3, startDatabase(t).URL())
	unsigned := []image{f.push(false)}
	known := f.warmUp(t, 3)
	survivor := map[*gate][]image{f.gates[0]: known[f.gates[0]]}
	cold := f.pushMany(400)

	l := f.start(survivor, cold, unsigned)
	for n := range 10 {
		g := f.gates[1+n%2]
		g.stop(t, syscall.SIGKILL)
		g.up(t)
		time.Sleep(100 * time.Millisecond)
	}
	l.end(t)
	left := l.unfinished
	f.settle(t, left[:min(3, len(left))])
}

// TestRollingRestart restarts one gate after the other, and the schema becomes one
// of a newer program and back, while clients pull. A client that goes to another
// gate when a connection is refused loses no pull.
func TestRollingRestart(t *testing.T) {
	db := startDatabase(t)
	f := startFleet(t, 3, db.URL())
	f.forgets.Store(true)
	list := f.pushMany(300)

	var all sync.WaitGroup
	stop := make(chan struct{})
	pulls, failed := 0, 0
	all.Go(func() {
		for n := 0; ; n++ {
			for _, path := range list[n%len(list)].paths() {
				status, body := 0, []byte(nil)
				for status == 0 {
					status, body = f.next().get(path)
				}
				if status != 200 {
					failed++
					t.Errorf("%s: %d %s", path, status, body)
				}
			}
			pulls++
			select {
			case <-stop:
				return
			default:
			}
		}
	})

	restart := func() {
		for _, g := range f.gates {
			g.stop(t, syscall.SIGTERM)
			g.up(t)
			time.Sleep(300 * time.Millisecond)
		}
	}
	restart()
	db.SQL(t, "ALTER TABLE pullgate_lists ADD COLUMN later text DEFAULT 'x' NOT NULL;"+
		"ALTER TABLE pullgate_records ADD COLUMN later integer; CREATE TABLE pullgate_later (a int);"+
		"UPDATE pullgate_schema SET minor = 9")
	restart()
	db.SQL(t, "ALTER TABLE pullgate_lists DROP COLUMN later; ALTER TABLE pullgate_records DROP COLUMN later;"+
		"DROP TABLE pullgate_later; UPDATE pullgate_schema SET minor = 1")
	restart()
	close(stop)
	all.Wait()
	t.Logf("%d pulls, %d requests failed", pulls, failed)
	if pulls < 20 {
		t.Errorf("only %d pulls: the test shows nothing", pulls)
	}
}

// TestFailover: the primary is lost, with what its standby had not got, and the
// standby becomes the primary.
func TestFailover(t *testing.T) {
	primary := startDatabase(t)
	standby := primary.Standby(t)
	f := startFleet(t, 3, "postgres://gate@127.0.0.1:"+primary.Port+",127.0.0.1:"+standby.Port+
		"/postgres?sslmode=disable&target_session_attrs=read-write")
	unsigned := []image{f.push(false)}
	known := f.warmUp(t, 3)
	cold := f.pushMany(400)

	l := f.start(known, cold, unsigned)
	time.Sleep(time.Second)
	standby.Pause(t) // what is written now is lost
	time.Sleep(time.Second)
	primary.Kill(t)
	standby.Resume(t)
	time.Sleep(500 * time.Millisecond)
	standby.Promote(t)
	time.Sleep(3 * time.Second)
	l.end(t)

	f.settle(t, cold[:5])
	left := l.unfinished
	f.settle(t, left[:min(3, len(left))])
	if standby.Value(t, "SELECT count(*) FROM pullgate_lists") == 0 {
		t.Error("nothing was written to the new primary")
	}
}

// TestFullDisk: what cannot be written is served from what the gates know, and is
// written when there is room.
func TestFullDisk(t *testing.T) {
	needTime(t)
	if os.Geteuid() != 0 {
		t.Fatal("it needs root, to make a small disk")
	}
	db := pgtest.StartSmall(t, 200)
	f := startFleet(t, 3, db.URL())
	unsigned := []image{f.push(false)}
	known := f.warmUp(t, 3)
	cold := f.pushMany(400)

	l := f.start(known, cold, unsigned)
	time.Sleep(500 * time.Millisecond)
	db.Fill(t)
	time.Sleep(4 * time.Second)
	for _, g := range f.gates {
		if status := g.ready(); status != 200 {
			t.Errorf("/readyz is %d", status)
		}
	}
	db.Free(t)
	time.Sleep(time.Second)
	l.end(t)
	left := l.unfinished
	f.settle(t, left[:min(3, len(left))])
}

// TestForeignSchema: another program's schema is refused plainly at the start.
func TestForeignSchema(t *testing.T) {
	db := startDatabase(t)
	f := startFleet(t, 1, db.URL())
	g := f.gates[0]
	g.stop(t, syscall.SIGTERM)
	db.SQL(t, "UPDATE pullgate_schema SET major = 2, minor = 3")

	g.log = &logBuffer{}
	out, code := g.run(t)
	if code != 2 || !strings.Contains(out, "the database has schema 2.3, this pullgate knows 1.x") {
		t.Errorf("exit code %d: %s", code, out)
	}
}

// TestAwayAtStart: gates start without the database, serve what they learn, and tell
// the others when it comes.
func TestAwayAtStart(t *testing.T) {
	needTime(t)
	db := pgtest.New(t)
	f := startFleet(t, 2, db.URL())
	i := f.push(true)
	for _, path := range i.paths() {
		if status, body := f.gates[0].get(path); status != 200 {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	for _, path := range i.paths()[2:] { // the other does not know
		if status, body := f.gates[1].get(path); status != 503 {
			t.Errorf("%s elsewhere: %d %s; want 503", path, status, body)
		}
	}
	for _, want := range []string{"pullgate_database_up 0", `pullgate_database_circuit_open{operation="write"} 1`} {
		if text := f.gates[0].metrics(t); !strings.Contains(text, want) {
			t.Errorf("the metrics do not say %s", want)
		}
	}
	if strings.Contains(f.gates[0].metrics(t), "pullgate_database_queue 0") {
		t.Error("nothing waits to be written")
	}

	db.Up(t)
	for _, path := range i.paths()[2:] {
		eventually(t, path+" elsewhere", func() bool { status, _ := f.gates[1].get(path); return status == 200 })
	}
	for _, want := range []string{
		"pullgate_database_up 1", "pullgate_database_queue 0", `pullgate_database_circuit_open{operation="write"} 0`,
	} {
		eventually(t, want, func() bool { return strings.Contains(f.gates[0].metrics(t), want) })
	}
}
