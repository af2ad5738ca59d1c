package signing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// passwordVariable is cosign's, too.
const passwordVariable = "COSIGN_PASSWORD"

// AskPassword returns a function that returns the password of a private key: the
// environment's, or what is typed at the terminal once stderr has asked for it.
func AskPassword(ctx context.Context, stderr io.Writer) func() ([]byte, error) {
	return func() ([]byte, error) {
		if p, ok := os.LookupEnv(passwordVariable); ok {
			return []byte(p), nil
		}
		return prompt(ctx, stderr, "Password for the private key: ")
	}
}

// AskNewPassword is AskPassword for a key that is being made. It asks twice,
// because a mistyped password loses the key.
func AskNewPassword(ctx context.Context, stderr io.Writer) ([]byte, error) {
	if p, ok := os.LookupEnv(passwordVariable); ok {
		return []byte(p), nil
	}

	first, err := prompt(ctx, stderr, "Password for the new private key: ")
	if err != nil {
		return nil, err
	}
	second, err := prompt(ctx, stderr, "Again: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		return nil, errors.New("the two passwords differ; nothing was written")
	}
	return first, nil
}

// prompt asks at the terminal. When ctx ends, the terminal shows again what is typed.
func prompt(ctx context.Context, stderr io.Writer, text string) ([]byte, error) {
	stdin := int(os.Stdin.Fd())
	if !term.IsTerminal(stdin) {
		return nil, fmt.Errorf("there is no terminal to ask for the password: set %s", passwordVariable)
	}

	state, err := term.GetState(stdin)
	if err != nil {
		return nil, fmt.Errorf("read password: %w", err)
	}
	fmt.Fprint(stderr, text)
	defer fmt.Fprintln(stderr)

	type answer struct {
		password []byte
		err      error
	}
	typed := make(chan answer, 1)
	go func() {
		password, err := term.ReadPassword(stdin)
		typed <- answer{password, err}
	}()

	select {
	case a := <-typed:
		if a.err != nil {
			return nil, fmt.Errorf("read password: %w", a.err)
		}
		return a.password, nil
	case <-ctx.Done():
		return nil, errors.Join(errors.New("no password was given"), term.Restore(stdin, state))
	}
}
