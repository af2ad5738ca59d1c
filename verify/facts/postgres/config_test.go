package postgres_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/facts/postgres"
)

// secret stands for a password wherever one may be.
const secret = "hunter2hunter2"

const (
	db   = "postgres://gate@db.example/facts"
	here = "postgres://gate@127.0.0.1/facts"
)

// TestURLs: a connection that leaves the machine is verified, whatever asks for less.
func TestURLs(t *testing.T) {
	for name, row := range map[string]struct {
		url  string
		env  string // PGSSLMODE
		want string // of the error; empty: none
	}{
		"loopback":              {url: "postgres://gate@127.0.0.1:5432/facts"},
		"loopback, version 6":   {url: "postgres://gate@[::1]:5432/facts"},
		"a socket":              {url: "postgres://gate@/facts?host=/run/postgresql"},
		"verified by default":   {url: "postgres://gate@db.example/facts"},
		"verified":              {url: "postgresql://gate@db.example/facts?sslmode=verify-full"},
		"two servers":           {url: "postgres://gate@a.example:5432,b.example:5433/facts"},
		"no TLS":                {url: db + "?sslmode=disable", want: "must be verified"},
		"TLS perhaps":           {url: db + "?sslmode=prefer", want: "must be verified"},
		"any server":            {url: db + "?sslmode=require", want: "must be verified"},
		"any of a CA's":         {url: db + "?sslmode=verify-ca", want: "must be verified"},
		"no TLS, environment":   {url: "postgres://gate@db.example/facts", env: "disable", want: "must be verified"},
		"the second server":     {url: "postgres://gate@127.0.0.1,b.example/x?sslmode=allow", want: "b.example must"},
		"no mode":               {url: db + "?sslmode=" + secret, want: "sslmode is invalid"},
		"another scheme":        {url: "mysql://gate@db.example/facts", want: "it is no URL"},
		"words":                 {url: "host=db.example user=gate password=" + secret, want: "it is no URL"},
		"no URL":                {url: "postgres://gate:" + secret + "@db.example:port/facts", want: "it is no URL"},
		"a password":            {url: "postgres://gate:" + secret + "@127.0.0.1/facts", want: "it holds a password"},
		"a password in words":   {url: here + "?password=" + secret, want: "it holds a password"},
		"the password of a key": {url: here + "?sslpassword=" + secret, want: "it holds a password"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PGSSLMODE", row.env)
			err := postgres.Config{URL: row.url}.Check()
			if (row.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), row.want) {
				t.Errorf("%v; want %q", err, row.want)
			}
			if err != nil && row.url != db+"?sslmode="+secret &&
				strings.Contains(err.Error(), secret) {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}

// TestSecretsStayOut: no error of a connection tells the password.
func TestSecretsStayOut(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, says := range map[string][]byte{
		"another protocol":                 []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"a refusal":                        message('E', "SFATAL\x00C28P01\x00Mpassword is wrong\x00\x00"),
		"asks for the password and leaves": {'R', 0, 0, 0, 8, 0, 0, 0, 3},
	} {
		t.Run(name, func(t *testing.T) {
			s := openFake(t, says, file)
			_, err := s.Parents(
				t.Context(),
				policy.Repository{Host: "r.example", Path: "a"},
				facts.PartBlob,
				digest.FromString("x"),
			)
			if err == nil || strings.Contains(err.Error(), secret) {
				t.Errorf("the error is %v", err)
			}
		})
	}

	t.Run("a file that is gone", func(t *testing.T) {
		s := openFake(t, nil, file+"-not-there")
		_, err := s.Parents(
			t.Context(),
			policy.Repository{Host: "r.example", Path: "a"},
			facts.PartBlob,
			digest.FromString("x"),
		)
		if err == nil || !strings.Contains(err.Error(), "password-not-there") {
			t.Errorf("the error is %v", err)
		}
	})
}

// TestNamespaceFile: a secret that could be guessed is refused.
func TestNamespaceFile(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		text string
		ok   bool
	}{
		"long enough": {strings.Repeat("a", 32) + "\n", true},
		"too short":   {"short\n", false},
		"empty":       {"", false},
		"too long":    {strings.Repeat("a", 1<<20), false},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "namespace")
			if err := os.WriteFile(file, []byte(row.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := postgres.ReadNamespace(file)
			if (err == nil) != row.ok || row.ok && string(got) != strings.TrimSpace(row.text) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

const soon = 30 * time.Second
