// Package cloud pulls through whole gates that get their credentials from clouds.
// The clouds are servers of the test, at the hosts' real names: the gate reaches
// them as it would reach the real ones, by an HTTP proxy and with the machine's
// roots, both of which are the test's.
package cloud
