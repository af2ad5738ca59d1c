// Package replicas runs several built gates on one PostgreSQL, sends a client to
// another gate for every request, and takes the database away in every way there is.
package replicas
