package trust

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"golang.org/x/sync/errgroup"
)

const (
	refreshTimeout = time.Minute // for one root or key
	firstBackOff   = 30 * time.Second
	longestBackOff = time.Hour
	askApart       = 5 * time.Second // between two refreshes of one source that Ask causes
	atOnce         = 8               // refreshes
)

// due lists the sources in use for which is holds, in the order of their names.
func (k *Keeper) due(is func(*source) bool) []*source {
	k.mu.Lock()
	defer k.mu.Unlock()

	var list []*source
	for _, s := range k.sources {
		if s.used && is(s) {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b *source) int { return strings.Compare(a.name+a.id, b.name+b.id) })
	return list
}

func (k *Keeper) untilNext() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()

	next := longestBackOff
	for _, s := range k.sources {
		if s.used {
			next = min(next, time.Until(s.due))
		}
	}
	return max(next, time.Second)
}

// refreshAll asks several at once, so that one that stalls holds up few others.
func (k *Keeper) refreshAll(ctx context.Context, list []*source) error {
	failed := make([]error, len(list))
	var all errgroup.Group
	all.SetLimit(atOnce)
	for i, s := range list {
		all.Go(func() error {
			if failed[i] = ctx.Err(); failed[i] == nil {
				failed[i] = k.refresh(ctx, s)
			}
			return nil
		})
	}

	_ = all.Wait() // each has its own error
	return errors.Join(failed...)
}

// refresh asks one source. What it had stays when that fails, whatever the
// answer was.
func (k *Keeper) refresh(ctx context.Context, s *source) error {
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()

	k.mu.Lock()
	s.asked = time.Now()
	k.mu.Unlock()
	text, err := s.ask(ctx)

	k.mu.Lock()
	defer k.mu.Unlock()

	var result string
	if err != nil {
		result = "failed"
		k.failed(s, err)
	} else {
		result = k.confirmed(s, text)
	}
	k.refreshes.Add(ctx, 1, metric.WithAttributes(attribute.String("result", result)))
	return err
}

// failed notes that s could not be refreshed, and when to try again.
func (k *Keeper) failed(s *source, err error) {
	s.failures++
	wait := min(longestBackOff, firstBackOff<<min(s.failures-1, 10))
	s.due = time.Now().Add(min(wait, s.every))

	text := "a refresh failed; the previous version stays in use"
	if s.good == nil {
		text = "a trust root or key cannot be loaded; pulls that need it are answered 503 until it is"
	}
	k.config.Log.Warn(text, "what", s.name, "retry_in", wait.String(), "error", err)
}

// confirmed takes what s gave, and reports whether it is "changed" or
// "unchanged".
func (k *Keeper) confirmed(s *source, text []byte) (result string) {
	s.failures, s.due = 0, time.Now().Add(s.every)
	s.at = time.Now()

	result = "unchanged"
	if !bytes.Equal(text, s.good) {
		result = "changed"
		s.good = text
		k.config.Log.Info("loaded a trust root or key", "what", s.name)
		select {
		case k.changed <- struct{}{}:
		default: // the reader has not looked since the last change, and will
		}
	}

	k.save(s)
	return result
}
