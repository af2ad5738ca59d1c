package credentials

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/pullgate/pullgate/policy"
)

// Basic is a user name with a password in a file. The file is read at every
// Get, so that a rotated password needs no reload.
type Basic struct {
	username string
	file     string
}

// NewBasic checks that the password file can be read.
func NewBasic(username, passwordFile string) (*Basic, error) {
	if username == "" {
		return nil, errors.New("auth type basic needs username and passwordFile")
	}

	b := &Basic{username: username, file: passwordFile}
	if _, err := b.password(); err != nil {
		return nil, err
	}

	return b, nil
}

// Get returns the user name, and the password that the file holds now.
func (b *Basic) Get(context.Context, policy.Repository) (Credentials, error) {
	password, err := b.password()
	if err != nil {
		return Credentials{}, err
	}

	return Credentials{Username: b.username, Password: password}, nil
}

// Configured is true.
func (b *Basic) Configured() bool { return true }

// password is the file's text without the line ends after it.
func (b *Basic) password() (string, error) {
	text, err := os.ReadFile(b.file)
	if err != nil {
		return "", fmt.Errorf("read passwordFile: %w", err)
	}

	password := strings.TrimRight(string(text), "\r\n")
	if password == "" {
		return "", fmt.Errorf("passwordFile %s is empty", b.file)
	}

	return password, nil
}

// Refused does nothing: nothing is cached.
func (*Basic) Refused() {}
