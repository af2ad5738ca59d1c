// Package version knows what this build of the program calls itself.
package version

import "runtime/debug"

// shownRevision is how much of a commit's hash tells it from every other one.
const shownRevision = 12

// String returns the version of the module, with the commit when it was built
// from a checkout, or "unknown" without build information.
func String() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}

	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && v == "(devel)" {
			v += "+" + s.Value[:min(len(s.Value), shownRevision)]
		}
	}
	return v
}
