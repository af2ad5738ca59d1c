package config

// NeedsRestart names the settings that differ from those of old and are read only
// at the start.
func (c *Config) NeedsRestart(old *Config) []string {
	settings := []struct {
		name     string
		now, was any
	}{
		{"listen", c.Listen, old.Listen},
		{"admin.listen", c.Admin.Listen, old.Admin.Listen},
		{"log", c.Log, old.Log},
		{"state.path", c.State.Path, old.State.Path},
		{"state.maxBytes", c.State.MaxBytes, old.State.MaxBytes},
		{"verdicts.maxEntries", c.Verdicts.MaxEntries, old.Verdicts.MaxEntries},
		{"manifests.maxBytes", c.Manifests.MaxBytes, old.Manifests.MaxBytes},
		{"tls", c.TLS.CertFile == "", old.TLS.CertFile == ""},
		{"intercept.listen", c.Intercept.Listen, old.Intercept.Listen},
		{"intercept.tlsListen", c.Intercept.TLSListen, old.Intercept.TLSListen},
		{"decisions", c.Decisions, old.Decisions},
		{"database", c.Database, old.Database},
		{"databasePasswordFile", c.DatabasePasswordFile, old.DatabasePasswordFile},
		{"databaseNamespaceFile", c.DatabaseNamespaceFile, old.DatabaseNamespaceFile},
	}

	var names []string
	for _, s := range settings {
		if s.now != s.was {
			names = append(names, s.name)
		}
	}
	return names
}
