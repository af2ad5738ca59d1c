package proxy

import (
	"context"
	"errors"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullgate/pullgate/policy"
)

func TestStreams(t *testing.T) {
	t.Parallel()
	anna := policy.Client{Addr: "10.0.0.1"}
	bert := policy.Client{Addr: "10.0.0.2"}
	carl := policy.Client{Addr: "10.0.0.3"}
	limits := StreamLimits{All: 3, Client: 2}

	// enter returns at once, with the status of the refusal.
	enter := func(t *testing.T, s *streams, client policy.Client) (leave func(), status int, took time.Duration) {
		t.Helper()
		start := time.Now()
		leave, err := s.enter(t.Context(), client, limits)
		if err != nil {
			status = asHTTPError(err).status
		}
		return leave, status, time.Since(start)
	}
	bubble := func(name string, test func(t *testing.T, s *streams)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, newStreams()) })
		})
	}

	bubble("one client", func(t *testing.T, s *streams) {
		first, _, _ := enter(t, s, anna)
		enter(t, s, anna)
		if _, status, took := enter(t, s, anna); status != http.StatusTooManyRequests || took != streamWait {
			t.Errorf("a third: %d after %s", status, took)
		}
		if _, status, took := enter(t, s, bert); status != 0 || took != 0 {
			t.Errorf("another client: %d after %s", status, took)
		}
		first()
		if _, status, took := enter(t, s, anna); status != 0 || took != 0 {
			t.Errorf("after one has ended: %d after %s", status, took)
		}
	})

	bubble("one network", func(t *testing.T, s *streams) {
		for _, addr := range []string{"2001:db8::1", "2001:db8::2"} {
			enter(t, s, policy.Client{Addr: addr})
		}
		if _, status, _ := enter(t, s, policy.Client{Addr: "2001:db8::3"}); status != http.StatusTooManyRequests {
			t.Errorf("another address of the same network: %d", status)
		}
	})

	bubble("all clients", func(t *testing.T, s *streams) {
		enter(t, s, anna)
		enter(t, s, anna)
		enter(t, s, bert)
		if _, status, took := enter(t, s, carl); status != http.StatusServiceUnavailable || took != streamWait {
			t.Errorf("a fourth: %d after %s", status, took)
		}
	})

	bubble("turn", func(t *testing.T, s *streams) {
		leave, _, _ := enter(t, s, anna)
		enter(t, s, anna)
		enter(t, s, bert)
		time.AfterFunc(time.Second, leave)
		if _, status, took := enter(t, s, carl); status != 0 || took != time.Second {
			t.Errorf("its turn: %d after %s", status, took)
		}
	})

	bubble("others' turn", func(t *testing.T, s *streams) { // anna came first, and has no room
		enter(t, s, anna)
		enter(t, s, anna)
		leave, _, _ := enter(t, s, bert)
		go enter(t, s, anna)
		synctest.Wait()
		time.AfterFunc(time.Second, leave)
		if _, status, took := enter(t, s, carl); status != 0 || took != time.Second {
			t.Errorf("behind a client without room: %d after %s", status, took)
		}
		time.Sleep(streamWait)
	})

	bubble("queue", func(t *testing.T, s *streams) { // of one client no more wait than may be under way
		for range 4 {
			go enter(t, s, anna)
			synctest.Wait()
		}
		if _, status, took := enter(t, s, anna); status != http.StatusTooManyRequests || took != 0 {
			t.Errorf("a fifth: %d after %s", status, took)
		}
		time.Sleep(streamWait)
	})

	bubble("client that left", func(t *testing.T, s *streams) {
		leave, _, _ := enter(t, s, anna)
		enter(t, s, anna)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.enter(ctx, anna, limits); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		leave()
		if _, status, took := enter(t, s, anna); status != 0 || took != 0 {
			t.Errorf("the room it waited for is gone: %d after %s", status, took)
		}
	})

	bubble("no limits", func(t *testing.T, s *streams) {
		if _, err := s.enter(t.Context(), anna, StreamLimits{}); err == nil {
			t.Error("the zero value lets a blob through")
		}
	})
}

// slowClient takes some bytes each second, as pace says for the seconds since
// the first.
type slowClient struct {
	http.ResponseWriter
	pace     func(second int) int
	start    time.Time
	deadline time.Time
}

func (c *slowClient) SetWriteDeadline(at time.Time) error { c.deadline = at; return nil }

func (c *slowClient) Write(b []byte) (int, error) {
	for taken := 0; taken < len(b); {
		if !time.Now().Before(c.deadline) {
			return taken, os.ErrDeadlineExceeded
		}
		taken += c.pace(int(time.Since(c.start) / time.Second))
		time.Sleep(time.Second)
	}
	return len(b), nil
}

func TestSlowClient(t *testing.T) {
	t.Parallel()
	const rate, size = 1000, 300_000 // bytes per second, bytes
	for name, c := range map[string]struct {
		pace  func(second int) int
		right bool
		cut   time.Duration // at most, from the start
	}{
		"fast":              {func(int) int { return size }, true, 0},
		"barely":            {func(int) int { return rate + 50 }, true, 0},
		"slow":              {func(int) int { return rate / 2 }, false, 2 * time.Minute},
		"a byte a second":   {func(int) int { return 1 }, false, time.Minute},
		"nothing":           {func(int) int { return 0 }, false, time.Minute},
		"in bursts":         {func(s int) int { return s % 50 / 49 * 70_000 }, true, 0},
		"stalls at the end": {func(s int) int { return max(0, 2-s) * 100_000 }, false, 2 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				client := newClientWriter(&slowClient{pace: c.pace, start: start}, rate)
				var err error
				for left := size; left > 0 && err == nil; left -= blobBuffer {
					_, err = client.Write(make([]byte, min(left, blobBuffer)))
				}
				took := time.Since(start)
				if c.right && err != nil {
					t.Errorf("%v after %s", err, took)
				}
				if !c.right && (!errors.Is(err, os.ErrDeadlineExceeded) || took > c.cut) {
					t.Errorf("%v after %s", err, took)
				}
			})
		})
	}
}
