package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Size is a number of bytes, written as people write them: 4MiB, 4Mi, 4MB or
// 4194304. With an i, a unit is a power of 1024, as Kubernetes has it; without one,
// of 1000 (IEC 80000-13).
type Size int64

// UnmarshalText reads a size, which is more than zero.
func (s *Size) UnmarshalText(text []byte) error {
	digits := strings.TrimRight(string(text), "kKMGTiB")
	unit, ok := bytesOf(string(text)[len(digits):])
	n, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || n <= 0 || n > (1<<62)/unit {
		return fmt.Errorf("%q is no size: write a number of bytes, or one with KiB, MiB or GiB", text)
	}

	*s = Size(n * unit)
	return nil
}

// bytesOf is how many bytes a unit has; ok is false for what is none.
func bytesOf(unit string) (n int64, ok bool) {
	prefix, binary := strings.CutSuffix(strings.TrimSuffix(unit, "B"), "i")
	exponents := map[string]int{"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4}
	exponent, ok := exponents[prefix]
	if !ok || binary && prefix == "" {
		return 0, false
	}

	base := int64(1000)
	if binary {
		base = 1024
	}
	for n = 1; exponent > 0; exponent-- {
		n *= base
	}
	return n, true
}
