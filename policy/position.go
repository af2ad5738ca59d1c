package policy

import "github.com/pullgate/pullgate/policy/strictyaml"

// Position is a place in a file that a person wrote. The zero value is nowhere:
// it belongs to what the gate has by itself.
type Position = strictyaml.Position

// Problem is one thing wrong with a configuration or a policy.
type Problem = strictyaml.Problem
