package signing

import (
	"bytes"
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
func AskPassword(stderr io.Writer) func() ([]byte, error) {
	return func() ([]byte, error) {
		if p, ok := os.LookupEnv(passwordVariable); ok {
			return []byte(p), nil
		}
		return prompt(stderr, "Password for the private key: ")
	}
}

// AskNewPassword is AskPassword for a key that is being made. It asks twice,
// because a mistyped password loses the key.
func AskNewPassword(stderr io.Writer) ([]byte, error) {
	if p, ok := os.LookupEnv(passwordVariable); ok {
		return []byte(p), nil
	}

	first, err := prompt(stderr, "Password for the new private key: ")
	if err != nil {
		return nil, err
	}
	second, err := prompt(stderr, "Again: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		return nil, errors.New("the two passwords differ; nothing was written")
	}
	return first, nil
}

func prompt(stderr io.Writer, text string) ([]byte, error) {
	stdin := int(os.Stdin.Fd())
	if !term.IsTerminal(stdin) {
		return nil, fmt.Errorf("there is no terminal to ask for the password: set %s", passwordVariable)
	}

	fmt.Fprint(stderr, text)
	password, err := term.ReadPassword(stdin)
	fmt.Fprintln(stderr)
	if err != nil {
		return nil, fmt.Errorf("read password: %w", err)
	}
	return password, nil
}
