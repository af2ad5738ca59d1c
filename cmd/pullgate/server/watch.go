package server

import (
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	settle       = 200 * time.Millisecond // after the last change, so that a file being written is whole
	settleAtMost = 2 * time.Second        // after the first
	lookAgain    = time.Minute            // network file systems announce no changes
)

// watch loads the configuration again on a hangup and on any change, until ctx
// ends. The caller asked for hangups before anything else was done.
func (r *reloader) watch(ctx context.Context, hangup <-chan os.Signal) error {
	var events <-chan fsnotify.Event
	var failures <-chan error
	changes, err := fsnotify.NewWatcher()
	if err != nil {
		r.log.Warn("files cannot be watched; they are looked at every minute", "error", err)
	} else {
		defer changes.Close()
		events, failures = changes.Events, changes.Errors
	}
	r.follow(changes)

	settled := time.NewTimer(settle) // what changed while this process was starting
	look := time.NewTicker(lookAgain)
	defer look.Stop()
	var since time.Time // of the first change that has not been looked at
	for {
		select {
		case <-ctx.Done():
			return nil

		case err := <-failures:
			r.log.Warn("changes of files may have been missed; they are looked at every minute", "error", err)
			continue

		case <-events:
			// A busy file in the same folder must not put the look off for ever.
			if since.IsZero() {
				since = time.Now()
			}
			settled.Reset(max(0, min(settle, time.Until(since.Add(settleAtMost)))))
			continue

		case <-r.engine.trust.Changed():
			r.renewTrust()
			continue

		case <-hangup:
			r.seen = [sha256.Size]byte{} // asked for: load whatever is there
			r.engine.trust.Ask()
		case <-look.C:
		case <-settled.C:
		}

		since = time.Time{}
		if again := r.look(); again {
			settled.Reset(settle)
		}
		r.follow(changes)
	}
}

// latest is what was last read: what is in force, or what was refused since. Only
// the files that it was read from can change what loading them again comes to.
func (r *reloader) latest() *Loaded {
	if r.tried != nil {
		return r.tried
	}
	return r.current()
}

// files are everything that the configuration in force, and one refused since,
// were read from or looked for.
func (r *reloader) files() []string {
	files := r.current().files()
	if r.tried != nil {
		files = append(files, r.tried.files()...)
	}
	return slices.DeleteFunc(files, func(f string) bool { return f == "" })
}

// follow watches the folders of all files, and no others. A nil w watches none.
func (r *reloader) follow(w *fsnotify.Watcher) {
	if w == nil {
		return
	}

	dirs := r.folders()
	for _, known := range w.WatchList() {
		if !dirs[known] {
			_ = w.Remove(known) // it may be gone already
		}
	}

	for dir := range dirs {
		if slices.Contains(w.WatchList(), dir) {
			continue
		}
		if err := w.Add(dir); err != nil {
			const told = "folder cannot be watched; its files are looked at every minute"
			r.log.Debug(told, "folder", dir, "error", err)
		}
	}
}

// folders are those of all files, of what the files point to, and of what may
// come to match a pattern. A ConfigMap's files are links into a folder that is
// swapped.
func (r *reloader) folders() map[string]bool {
	dirs := map[string]bool{}
	for _, f := range r.files() {
		dirs[filepath.Dir(f)] = true
		if target, err := filepath.EvalSymlinks(f); err == nil {
			dirs[filepath.Dir(target)] = true
		}
	}

	for _, l := range []*Loaded{r.current(), r.tried} {
		if l == nil {
			continue
		}
		for _, pattern := range l.Config.PolicyFiles {
			found, err := filepath.Glob(filepath.Dir(l.Config.Path(pattern)))
			if err != nil {
				continue
			}
			for _, d := range found {
				dirs[d] = true
			}
		}
	}
	return dirs
}
