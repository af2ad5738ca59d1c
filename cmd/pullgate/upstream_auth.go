package main

import (
	"strings"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy/upstream"
	"github.com/pullgate/pullgate/proxy/upstream/credentials"
)

// auth makes what the upstream uc is shown from its part of the configuration.
// What is wrong with the credentials is an error here, at load time.
func (c *config) auth(a authConfig, uc upstream.Config) (upstream.Auth, error) {
	address, err := uc.Address()
	if err != nil {
		return upstream.Auth{}, err
	}

	var source credentials.Source
	switch a.Type {
	case "basic":
		source, err = credentials.NewBasic(a.Username, c.path(a.PasswordFile))
	case "dockerConfig":
		registry := credentials.Registry{Host: uc.Host, Address: address.Host}
		source, err = credentials.NewDockerConfig(c.path(a.File), registry)
	default:
		source = credentials.Anonymous{}
	}
	if err != nil {
		return upstream.Auth{}, err
	}

	return upstream.Auth{Source: source, Realms: a.Realms}, nil
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
