// Package recording keeps what registries answered while an image was verified,
// so that the image can be verified again without them. Its files are written by
// `pullgate verify --record` and read by `pullgate test`; their bytes are as
// untrusted as the registries'.
package recording

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/oci"
)

// Recording is every answer about one image. It is safe for concurrent use.
type Recording struct {
	mu     sync.Mutex
	file   file
	failed error // a question that was not answered: its answer would be missing
}

// file is the format of a recording. Its keys are a repository, "@", and a tag
// or a digest.
type file struct {
	Manifests map[string]manifest  `json:"manifests"`
	Blobs     map[string][]byte    `json:"blobs"`
	Referrers map[string]referrers `json:"referrers"`
}

type manifest struct {
	MediaType string `json:"mediaType"`
	Bytes     []byte `json:"bytes"`
}

// referrers has the keys that recordings have always had.
type referrers struct {
	Supported   bool             `json:"Supported"`
	Truncated   bool             `json:"Truncated"`
	Descriptors []oci.Descriptor `json:"Descriptors"`
}

func key(repo policy.Repository, what string) string { return repo.String() + "@" + what }

// New returns a recording that holds nothing yet.
func New() *Recording {
	return &Recording{file: file{
		Manifests: map[string]manifest{},
		Blobs:     map[string][]byte{},
		Referrers: map[string]referrers{},
	}}
}

// Read reads a recording from a file.
func Read(name string) (*Recording, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read recording: %w", err)
	}

	r := New()
	if err := json.Unmarshal(b, &r.file); err != nil {
		return nil, fmt.Errorf("recording %s: %w; make it again with `pullgate verify IMAGE --record FILE`", name, err)
	}
	return r, nil
}

// Write writes the recording to a file. It refuses if a registry failed to answer:
// what could not be asked would replay as absent.
func (r *Recording) Write(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed != nil {
		return fmt.Errorf("nothing was recorded, because what could not be asked would replay as absent: %w", r.failed)
	}

	b, err := json.MarshalIndent(r.file, "", " ")
	if err != nil {
		return fmt.Errorf("write recording: %w", err)
	}
	return os.WriteFile(name, append(b, '\n'), 0o600)
}

// Recorder returns a registry that asks another one and records its answers.
func (r *Recording) Recorder(registry verify.Registry) verify.Registry {
	return &recorder{registry: registry, into: r}
}

// Replayer returns a registry that answers as the recorded ones did. The registry
// it takes the place of is not asked.
func (r *Recording) Replayer(verify.Registry) verify.Registry { return &replayer{from: r} }

var errNotRecorded = errors.New("not in the recording")
