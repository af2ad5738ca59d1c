package trust

import (
	"errors"
	"os"
	"path/filepath"
)

// load gives s what was saved of it, if there is any and it is still good.
func (k *Keeper) load(s *source) {
	if k.config.Dir == "" {
		return
	}

	file := filepath.Join(k.config.Dir, s.id)
	text, err := os.ReadFile(file)
	if err == nil {
		err = s.check(text)
	}
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			k.config.Log.Warn("a saved trust root or key cannot be used", "what", s.name, "error", err)
		}
		return
	}

	s.good = text
	if info, err := os.Stat(file); err == nil {
		s.at = info.ModTime()
	}
}

// save writes what is good to disk, for the next start.
func (k *Keeper) save(s *source) {
	if k.config.Dir == "" || k.config.Frozen {
		return
	}

	err := os.MkdirAll(k.config.Dir, 0o700)
	file := filepath.Join(k.config.Dir, s.id)
	if err == nil {
		err = os.WriteFile(file+".new", s.good, 0o600)
	}
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		k.config.Log.Warn("a trust root or key cannot be saved for the next start", "what", s.name, "error", err)
	}
}
