package sigs

import (
	"errors"
	"testing"
)

func TestPlainReasons(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ text, want string }{
		{
			"failed to verify log inclusion: not enough verified log entries from transparency log: 0 < 1",
			"no transparency log entry proves it (not enough verified log entries from transparency log: 0 < 1)",
		},
		{
			"failed to verify timestamps: threshold not met: 0 < 1; error: %!w(<nil>)",
			"no trusted timestamp proves when it was made (threshold not met: 0 < 1)",
		},
		{
			"failed to verify log inclusion: calculated root: [160 44 133]",
			"no transparency log entry proves it (calculated root)",
		},
		{"failed to verify signature: ", "it was made by another key, or altered"},
		{"something\nelse", "it cannot be verified (something?else)"},
		{"[1 2 3]", "it cannot be verified"},
	} {
		t.Run(tt.text, func(t *testing.T) {
			if got := plainly(errors.New(tt.text)).Error(); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
