// Package postgres is the Store in a PostgreSQL database, which several gates
// share. It knows SQL, connections and what to do when the database does not
// answer. It must not know the gate's own store, verdicts or HTTP.
//
// Everything it reads is bounded by SQL and by the protocol, and proves itself by
// hash or is only a hint: what the database says can cost time, never admit.
package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	maxMessage  = 1 << 20 // bytes of one message of the server: pgx would reserve up to 1 GiB for a length it is told
	maxPassword = 4 << 10
	maxConns    = 16 // one that is given up is closed for up to 15 s
	minSecret   = 16 // bytes of a namespace: less could be guessed
	maxSecret   = 4 << 10

	connectTimeout = 2 * time.Second
)

// Config says which database it is.
type Config struct {
	// URL is postgres://user@host:5432/name?sslmode=…, without a password.
	URL string
	// PasswordFile holds the password, and is read for each connection; empty: as
	// PGPASSFILE says.
	PasswordFile string
	// Namespace keeps those who read the database from guessing the names of
	// repositories, and seals what does not prove itself. All replicas have the
	// same; empty: the names can be guessed.
	Namespace []byte
}

// Check reports what is wrong with c, without asking the database. No error
// holds a password.
func (c Config) Check() error {
	_, err := c.pool()
	return err
}

// ReadNamespace reads a Namespace from a file.
func ReadNamespace(file string) ([]byte, error) {
	secret, err := readSecret(file, maxSecret)
	if err != nil {
		return nil, err
	}
	if len(secret) < minSecret {
		return nil, fmt.Errorf("%s must hold at least %d bytes, e.g. from `openssl rand -hex 32`", file, minSecret)
	}
	return []byte(secret), nil
}

// pool is how connections are made.
func (c Config) pool() (*pgxpool.Config, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" { // the error would quote a password
		return nil, errors.New("it is no URL of the form postgres://user@host:5432/name")
	}
	query := u.Query()
	if _, has := u.User.Password(); has || query.Has("password") || query.Has("sslpassword") {
		return nil, errors.New(
			"it holds a password: put that into a file, and name it in databasePasswordFile or PGPASSFILE",
		)
	}

	parsed, err := pgxpool.ParseConfig(c.URL)
	if err == nil && !query.Has("sslmode") && os.Getenv("PGSSLMODE") == "" && !allLocal(parsed.ConnConfig) {
		query.Set("sslmode", "verify-full")
		u.RawQuery = query.Encode()
		parsed, err = pgxpool.ParseConfig(u.String())
	}
	if err != nil {
		return nil, err
	}
	if err := checkTLS(parsed.ConnConfig); err != nil {
		return nil, err
	}

	c.bound(parsed, query)
	return parsed, nil
}

// bound sets what the URL leaves open, and what it has no word for.
func (c Config) bound(p *pgxpool.Config, query url.Values) {
	if !query.Has("pool_max_conns") {
		p.MaxConns = maxConns
	}
	if !query.Has("connect_timeout") {
		p.ConnConfig.ConnectTimeout = connectTimeout
	}
	if p.ConnConfig.RuntimeParams["application_name"] == "" {
		p.ConnConfig.RuntimeParams["application_name"] = "pullgate"
	}
	p.MaxConnLifetimeJitter = p.MaxConnLifetime / 4
	p.ConnConfig.MaxProtocolMessageBodyLen = maxMessage

	if c.PasswordFile == "" {
		return
	}
	p.BeforeConnect = func(_ context.Context, cc *pgx.ConnConfig) (err error) {
		cc.Password, err = readSecret(c.PasswordFile, maxPassword)
		return err
	}
}

// allLocal reports whether no host leaves this machine.
func allLocal(c *pgx.ConnConfig) bool {
	local := isLocal(c.Host)
	for _, f := range c.Fallbacks {
		local = local && isLocal(f.Host)
	}
	return local
}

func isLocal(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasPrefix(host, "/") || ip != nil && ip.IsLoopback()
}

// checkTLS demands a verified server wherever the connection leaves this machine.
// It looks at what the URL, the environment and service files came to, not at their
// words.
func checkTLS(c *pgx.ConnConfig) error {
	unsafe := func(host string, c *tls.Config) error {
		if isLocal(host) || c != nil && !c.InsecureSkipVerify {
			return nil
		}
		return fmt.Errorf("the connection to %s must be verified: write sslmode=verify-full, "+
			"and sslrootcert=FILE for a CA of your own", host)
	}

	err := unsafe(c.Host, c.TLSConfig)
	for _, f := range c.Fallbacks {
		err = errors.Join(err, unsafe(f.Host, f.TLSConfig))
	}
	return err
}

// readSecret reads one line from a file of at most so many bytes.
func readSecret(file string, most int64) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()

	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return "", err
	}
	if int64(len(text)) > most {
		return "", fmt.Errorf("%s must hold one line of at most %d bytes", file, most)
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}
