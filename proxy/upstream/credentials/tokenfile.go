package credentials

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/pullgate/pullgate/policy"
)

const maxTokenFile = 64 << 10 // bytes

// Token is a bearer token in a file, which the registry itself takes: the gate
// asks no token service for another one. The file is read at every Get, so that a
// token that is rotated, as Kubernetes does it, needs no reload.
type Token struct{ file string }

// NewToken checks that the file holds a token.
func NewToken(file string) (*Token, error) {
	t := &Token{file: file}
	if _, err := t.read(); err != nil {
		return nil, err
	}

	return t, nil
}

// Get returns the token that the file holds now.
func (t *Token) Get(context.Context, policy.Repository) (Credentials, error) {
	token, err := t.read()
	if err != nil {
		return Credentials{}, &Failure{Identity: "the token of " + t.file, Err: err}
	}

	return Credentials{Token: token}, nil
}

// Configured is true.
func (*Token) Configured() bool { return true }

// Refused does nothing: nothing is cached.
func (*Token) Refused() {}

// read reads the file. No error quotes it.
func (t *Token) read() (string, error) {
	f, err := os.Open(t.file)
	if err != nil {
		return "", fmt.Errorf("read the token's file: %w", err)
	}
	defer f.Close()

	text, err := io.ReadAll(io.LimitReader(f, maxTokenFile+1))
	if err != nil {
		return "", fmt.Errorf("read the token's file: %w", err)
	}
	token := strings.TrimSpace(string(text))
	switch {
	case token == "":
		return "", errors.New("the token's file " + t.file + " is empty")
	case len(text) > maxTokenFile || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", errors.New("the token's file " + t.file + " holds no token: it must be one word of ASCII")
	}
	return token, nil
}
