// Package soak runs the built pullgate for a while under everything at once:
// a thousand clients, an upstream behind a network that fails, reloads and
// restarts. It knows at every moment what the gate may answer.
package soak
