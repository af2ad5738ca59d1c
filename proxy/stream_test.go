package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"
)

// pattern is n bytes of which no buffer is like another.
func pattern(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%d,", i)
	}
	return b.Bytes()[:n]
}

// verifying is a reader of came that expects want.
func verifying(came io.Reader, want []byte, length int64) *verifyingReader {
	return &verifyingReader{
		source:   came,
		verifier: digest.FromBytes(want).Verifier(),
		length:   length,
	}
}

// outlets are the ways to get a blob out of a verifyingReader.
var outlets = map[string]func(v *verifyingReader) ([]byte, error){
	"Read": func(v *verifyingReader) ([]byte, error) { return io.ReadAll(struct{ io.Reader }{v}) },
	"WriteTo": func(v *verifyingReader) ([]byte, error) {
		var b bytes.Buffer
		n, err := io.Copy(&b, v)
		if n != int64(b.Len()) {
			return nil, fmt.Errorf("WriteTo counts %d bytes of %d", n, b.Len())
		}
		return b.Bytes(), err
	},
	"both": func(v *verifyingReader) ([]byte, error) {
		var b bytes.Buffer
		if _, err := io.CopyN(&b, struct{ io.Reader }{v}, 10); err != nil {
			return b.Bytes(), err
		}
		_, err := v.WriteTo(&b)
		return b.Bytes(), err
	},
}

var blobSizes = []int{
	0, 1, 10, 11, blobBuffer - 1, blobBuffer, blobBuffer + 1, 2*blobBuffer - 1, 2 * blobBuffer, 5*blobBuffer + 7,
}

func TestVerifyingReader(t *testing.T) {
	for _, size := range blobSizes {
		t.Run(fmt.Sprintf("right/%d", size), func(t *testing.T) {
			want := pattern(size)
			for name, out := range outlets {
				if name == "both" && size < 10 {
					continue
				}
				for _, length := range []int64{int64(size), -1} {
					got, err := out(verifying(iotest.HalfReader(bytes.NewReader(want)), want, length))
					if err != nil || !bytes.Equal(got, want) {
						t.Errorf("%s, length %d: %d bytes, %v", name, length, len(got), err)
					}
				}
			}
			if err := iotest.TestReader(verifying(bytes.NewReader(want), want, int64(size)), want); err != nil {
				t.Error(err)
			}
		})
	}

	broken := errors.New("broken")
	for _, size := range blobSizes[1:] {
		want := pattern(size)
		wrong := bytes.Clone(want)
		wrong[0] ^= 1
		whole := int64(size)
		more := func() io.Reader { return io.MultiReader(bytes.NewReader(want), strings.NewReader("x")) }
		for _, tt := range []struct {
			name   string
			came   io.Reader
			length int64
			err    error
		}{
			{"other bytes", bytes.NewReader(wrong), whole, errWrongBlob},
			{"other bytes of no known length", bytes.NewReader(wrong), -1, errWrongBlob},
			{"short", bytes.NewReader(want[:size-1]), whole, errWrongBlob},
			{"short of no known length", bytes.NewReader(want[:size-1]), -1, errWrongBlob},
			{"long", more(), whole, errWrongBlob},
			{"long of no known length", more(), -1, errWrongBlob},
			{"failing", io.MultiReader(bytes.NewReader(want), iotest.ErrReader(broken)), whole, broken},
		} {
			t.Run(fmt.Sprintf("%s/%d", tt.name, size), func(t *testing.T) {
				came, err := io.ReadAll(tt.came)
				if err != nil && !errors.Is(err, broken) {
					t.Fatal(err)
				}
				for name, out := range outlets {
					if name == "both" {
						continue
					}
					source := io.Reader(bytes.NewReader(came))
					if errors.Is(tt.err, broken) {
						source = io.MultiReader(source, iotest.ErrReader(broken))
					}
					v := verifying(source, want, tt.length)
					got, err := out(v)
					if !errors.Is(err, tt.err) {
						t.Errorf("%s: %v, want %v", name, err, tt.err)
					}
					if len(got) >= size || len(got) > max(0, len(came)-1) {
						t.Errorf("%s: %d of %d bytes left, the last of them too", name, len(got), size)
					}
					if n, err := v.Read(make([]byte, 10)); n > 0 || !errors.Is(err, tt.err) {
						t.Errorf("%s: reads on after the failure: %d bytes, %v", name, n, err)
					}
				}
			})
		}
	}
}

func TestPartOfBlob(t *testing.T) {
	want := pattern(3 * blobBuffer)
	for name, tt := range map[string]struct {
		came []byte
		err  error
	}{
		"whole": {want, nil},
		"short": {want[:len(want)-1], errWrongBlob},
		"long":  {append(bytes.Clone(want), 'x'), errWrongBlob},
	} {
		t.Run(name, func(t *testing.T) {
			v := &verifyingReader{source: bytes.NewReader(tt.came), length: int64(len(want))}
			got, err := io.ReadAll(v)
			if !errors.Is(err, tt.err) || err == nil && !bytes.Equal(got, want) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
}

// A writer's own failure ends the blob, and comes back as it is.
func TestClientLeaves(t *testing.T) {
	want := pattern(3 * blobBuffer)
	gone := errors.New("gone")
	n, err := io.Copy(failingWriter{gone}, verifying(bytes.NewReader(want), want, int64(len(want))))
	if n != 0 || !errors.Is(err, gone) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

type failingWriter struct{ err error }

func (f failingWriter) Write([]byte) (int, error) { return 0, f.err }
