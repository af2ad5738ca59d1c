package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Size is a number of bytes, written 4MiB, 1GiB or 4096.
type Size int64

// UnmarshalText reads a size, which is more than zero.
func (s *Size) UnmarshalText(text []byte) error {
	digits := strings.TrimRight(string(text), "KMGTiB")
	units := map[string]int64{"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}

	unit, ok := units[string(text)[len(digits):]]
	n, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || n <= 0 || n > (1<<62)/unit {
		return fmt.Errorf("%q is no size: write a number of bytes, or one with KiB, MiB or GiB", text)
	}

	*s = Size(n * unit)
	return nil
}
