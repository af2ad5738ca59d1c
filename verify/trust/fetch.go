package trust

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/sigstore/sigstore-go/pkg/tuf"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/pullgate/pullgate/policy"
)

// repository is where the updater believes a folder to be. Nothing is asked there.
const repository = "https://directory.invalid"

// fetchTUF follows a TUF repository from its starting root to the target as it
// is now. What was seen before stays in the cache folder, so that a mirror cannot
// roll the repository back; without a folder every refresh begins afresh.
func fetchTUF(ctx context.Context, t *policy.TUF, cache string, client *http.Client) ([]byte, error) {
	options := &tuf.Options{
		Root:              t.Root,
		CachePath:         cache,
		RepositoryBaseURL: t.Mirror,
		DisableLocalCache: cache == "",
	}

	if t.Directory != "" {
		root, err := os.OpenRoot(t.Directory)
		if err != nil {
			return nil, fmt.Errorf("TUF repository: %w", err)
		}
		defer root.Close()
		options.RepositoryBaseURL = repository
		options.Fetcher = folder{root}
	} else {
		options.Fetcher = &mirror{ctx, client}
	}

	updater, err := tuf.New(options)
	if err != nil {
		return nil, fmt.Errorf("TUF repository %s: %w", t.Mirror+t.Directory, err)
	}

	text, err := updater.GetTarget(t.Target)
	if err != nil {
		return nil, fmt.Errorf("TUF repository %s: %w", t.Mirror+t.Directory, err)
	}

	return text, nil
}

// mirror fetches from a web server. It lives for one refresh, whose context it
// keeps because the updater knows none.
type mirror struct {
	ctx    context.Context
	client *http.Client
}

func (m *mirror) DownloadFile(address string, most int64, _ time.Duration) ([]byte, error) {
	request, err := http.NewRequestWithContext(m.ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("ask for %s: %w", address, err)
	}
	request.Header.Set("User-Agent", "pullgate")

	response, err := m.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask for %s: %w", address, err)
	}
	defer response.Body.Close()

	if response.StatusCode != http.StatusOK {
		return nil, &metadata.ErrDownloadHTTP{StatusCode: response.StatusCode, URL: address}
	}
	return readMost(response.Body, most, address)
}

// folder reads a repository's files from a disk, and nothing beside them.
type folder struct{ root *os.Root }

func (f folder) DownloadFile(address string, most int64, _ time.Duration) ([]byte, error) {
	name := strings.TrimPrefix(strings.TrimPrefix(address, repository), "/")

	file, err := f.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &metadata.ErrDownloadHTTP{StatusCode: http.StatusNotFound, URL: name}
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	defer file.Close()

	return readMost(file, most, name)
}

// maxTUFFile bounds a file where the updater does not, in bytes.
const maxTUFFile = 16 << 20

func readMost(r io.Reader, most int64, name string) ([]byte, error) {
	if most <= 0 || most > maxTUFFile {
		most = maxTUFFile
	}

	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(b)) > most {
		return nil, &metadata.ErrDownloadLengthMismatch{Msg: fmt.Sprintf("%s is larger than %d bytes", name, most)}
	}
	return b, nil
}
