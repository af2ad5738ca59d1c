package main

import (
	"strings"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy/upstream"
)

// auth turns the configuration's words into an upstream's credentials.
func (c *config) auth(a authConfig) (upstream.Auth, error) {
	switch a.Type {
	case "basic":
		return upstream.Auth{
			Type:         upstream.Basic,
			Username:     a.Username,
			PasswordFile: c.path(a.PasswordFile),
			Realms:       a.Realms,
		}, nil
	case "dockerConfig":
		return upstream.Auth{Type: upstream.DockerConfig, File: c.path(a.File), Realms: a.Realms}, nil
	}
	return upstream.Auth{Realms: a.Realms}, nil
}

// hostnames maps Host headers to the upstream they select.
func (c *config) hostnames() map[string]string {
	names := map[string]string{}
	for _, u := range c.Upstreams {
		for _, n := range u.Hostnames {
			names[strings.ToLower(n)] = policy.FamiliarHost(u.Host)
		}
	}
	return names
}
