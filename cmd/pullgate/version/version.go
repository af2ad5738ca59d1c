// Package version knows what this build of the program calls itself.
package version

import (
	"runtime"
	"runtime/debug"
)

// shownRevision is how much of a commit's hash tells it from every other one.
const shownRevision = 12

// stamped and stampedCommit are what the linker writes where the build sees no
// checkout: -ldflags "-X github.com/pullgate/pullgate/cmd/pullgate/version.stamped=v1.2.3".
// Nothing else changes them.
var stamped, stampedCommit string

// Info is everything that a build knows about itself.
type Info struct {
	Version  string `json:"version"`            // of the module, or "unknown"
	Commit   string `json:"commit,omitempty"`   // the whole hash; empty without a checkout
	Time     string `json:"time,omitempty"`     // of the commit, RFC 3339
	Modified bool   `json:"modified,omitempty"` // the checkout held changes that are in no commit
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
}

// Read returns what is known of this build.
func Read() Info {
	i := Info{
		Version: "unknown",
		Go:      runtime.Version(),
		OS:      runtime.GOOS,
		Arch:    runtime.GOARCH,
	}

	if build, ok := debug.ReadBuildInfo(); ok {
		i.Version = build.Main.Version
		for _, s := range build.Settings {
			switch s.Key {
			case "vcs.revision":
				i.Commit = s.Value
			case "vcs.time":
				i.Time = s.Value
			case "vcs.modified":
				i.Modified = s.Value == "true"
			}
		}
	}

	if i.Version == "(devel)" && i.Commit != "" {
		i.Version += "+" + i.Commit[:min(len(i.Commit), shownRevision)]
	}
	if stamped != "" {
		i.Version = stamped
	}
	if stampedCommit != "" {
		i.Commit = stampedCommit
	}
	return i
}

// String returns the version that was stamped, else that of the module, with the
// commit when it was built from a checkout, or "unknown" without build information.
func String() string { return Read().Version }
