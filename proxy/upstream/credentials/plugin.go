package credentials

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pullgate/pullgate/policy"
)

// The kubelet's protocol with credential providers (k8s.io/kubelet,
// credentialprovider/v1).
const (
	pluginVersion  = "credentialprovider.kubelet.k8s.io/v1"
	pluginRequest  = "CredentialProviderRequest"
	pluginResponse = "CredentialProviderResponse"
)

const (
	// PluginTimeout is how long a plugin may run, unless its configuration says so.
	PluginTimeout = 10 * time.Second

	maxPluginAnswer = 64 << 10 // bytes
	maxPluginRuns   = 4        // at once, of one registry
	maxPluginImages = 256      // whose credentials are held, where each image has its own

	// pluginLife is how long an answer is used that does not say it, pluginLeast
	// the least, so that the requests of one pull share it, and pluginMost the most.
	pluginLife  = time.Minute
	pluginLeast = 5 * time.Second
	pluginMost  = 24 * time.Hour
)

// PluginConfig is the configuration of a Plugin.
type PluginConfig struct {
	Command string // an absolute path
	Args    []string
	Env     map[string]string // besides PATH and HOME, all that the plugin gets of an environment
	Timeout time.Duration     // of one run; 0: PluginTimeout
	Now     func() time.Time  // nil: time.Now
}

// Plugin is a credential provider of the kubelet: a program that is asked by JSON
// on its standard input. What it answers is used for this registry alone, as long
// as it says.
type Plugin struct {
	config PluginConfig
	host   string // of the registry, for the log
	image  string // the registry's part of an image's name, with the path before its repositories
	runs   chan struct{}

	configured atomic.Bool // the last answer held credentials, or there was none

	mu       sync.Mutex
	perImage bool // the plugin says that each image has credentials of its own
	sources  map[string]*renewing
}

// NewPlugin checks that the program is there. It is not run.
func NewPlugin(registry Registry, c PluginConfig) (*Plugin, error) {
	if !filepath.IsAbs(c.Command) {
		return nil, errors.New("command must be an absolute path")
	}
	info, err := os.Stat(c.Command)
	switch {
	case err != nil:
		return nil, fmt.Errorf("find the credential provider: %w", err)
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0:
		return nil, fmt.Errorf("command %s is no program", c.Command)
	}

	if c.Timeout <= 0 {
		c.Timeout = PluginTimeout
	}
	if c.Now == nil {
		c.Now = time.Now
	}

	p := &Plugin{
		config:  c,
		host:    registry.Host,
		image:   pluginImage(registry),
		runs:    make(chan struct{}, maxPluginRuns),
		sources: map[string]*renewing{},
	}
	p.configured.Store(true)
	return p, nil
}

// pluginImage is how the names of the registry's images begin, as a kubelet has
// them: without the port that https means.
func pluginImage(r Registry) string {
	host := strings.ToLower(r.Address)
	if bare, port := policy.SplitPort(host); port != "" && port == r.ImpliedPort {
		host = bare
	}
	if r.Host == "docker.io" && host == "registry-1.docker.io" {
		host = r.Host
	}
	return strings.TrimSuffix(host+"/"+strings.Trim(r.Path, "/"), "/")
}

// Get returns what the plugin gives for a repository; nothing, if it has nothing
// for it.
func (p *Plugin) Get(ctx context.Context, repository policy.Repository) (Credentials, error) {
	source, shared := p.source(repository)
	got, err := source.Get(ctx, repository)

	if shared && p.isPerImage() { // it has just said so
		source, _ = p.source(repository)
		got, err = source.Get(ctx, repository)
	}
	if ctx.Err() == nil {
		p.configured.Store(err != nil || !got.Empty())
	}
	return got, err
}

// Configured reports whether the last answer held credentials. None yet, and a
// plugin that failed, count as one that did.
func (p *Plugin) Configured() bool { return p.configured.Load() }

// Refused has the plugin asked again for what is no longer young.
func (p *Plugin) Refused() {
	p.mu.Lock()
	defer p.mu.Unlock()

	for _, source := range p.sources {
		source.Refused()
	}
}

func (p *Plugin) isPerImage() bool {
	p.mu.Lock()
	defer p.mu.Unlock()

	return p.perImage
}

// source is what holds a repository's credentials: its own, or those that all
// share.
func (p *Plugin) source(repository policy.Repository) (found *renewing, shared bool) {
	p.mu.Lock()
	defer p.mu.Unlock()

	key := ""
	if p.perImage {
		key = repository.Path
	}
	if p.sources[key] == nil {
		if len(p.sources) >= maxPluginImages {
			p.sources = map[string]*renewing{}
		}
		image := p.image + "/" + repository.Path
		made := newRenewing(p.host, "credential provider "+p.config.Command, p.config.Now,
			func(ctx context.Context) (lease, error) { return p.fetch(ctx, image) })
		made.timeout = p.config.Timeout + helperGrace + time.Second
		p.sources[key] = made
	}
	return p.sources[key], !p.perImage
}

// pluginAnswer is a CredentialProviderResponse.
type pluginAnswer struct {
	APIVersion    string               `json:"apiVersion"`
	Kind          string               `json:"kind"`
	CacheKeyType  string               `json:"cacheKeyType"`
	CacheDuration *string              `json:"cacheDuration"`
	Auth          map[string]pluginKey `json:"auth"` // by pattern
}

type pluginKey struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// fetch asks the plugin about an image. No error quotes what it writes.
func (p *Plugin) fetch(ctx context.Context, image string) (lease, error) {
	text, err := p.run(ctx, image)
	if err != nil {
		return lease{}, err
	}

	var answer pluginAnswer
	if json.Unmarshal(text, &answer) != nil || answer.APIVersion != pluginVersion || answer.Kind != pluginResponse {
		return lease{}, fmt.Errorf("its answer is no %s of %s", pluginResponse, pluginVersion)
	}

	life, err := answer.life()
	if err != nil {
		return lease{}, err
	}
	switch answer.CacheKeyType {
	case "Image":
		p.mu.Lock()
		if !p.perImage {
			p.perImage = true
			p.sources = map[string]*renewing{}
		}
		p.mu.Unlock()
	case "Registry", "Global": // one registry is all that this source is for
	default:
		return lease{}, errors.New("its answer has no cacheKeyType: Image, Registry or Global")
	}

	shown, err := answer.forImage(image)
	return lease{shown: shown, until: p.config.Now().Add(life)}, err
}

// life is how long an answer is used.
func (a *pluginAnswer) life() (time.Duration, error) {
	if a.CacheDuration == nil {
		return pluginLife, nil
	}

	life, err := time.ParseDuration(*a.CacheDuration)
	if err != nil || life < 0 {
		return 0, errors.New("its answer's cacheDuration is no duration")
	}
	return min(max(life, pluginLeast), pluginMost), nil
}

// forImage is what the first pattern that matches an image holds, the longest
// first, as a kubelet sorts them.
func (a *pluginAnswer) forImage(image string) (Credentials, error) {
	patterns := slices.Sorted(maps.Keys(a.Auth))
	slices.Reverse(patterns)

	for _, pattern := range patterns {
		if !matchesImage(pattern, image) {
			continue
		}
		key := a.Auth[pattern]
		if key == (pluginKey{}) {
			return Credentials{}, nil
		}
		if !isShowable(key.Username) || strings.Contains(key.Username, ":") || !isShowable(key.Password) {
			return Credentials{}, errors.New("its answer holds a user name or password that no registry can be shown")
		}
		return Credentials{Username: key.Username, Password: key.Password}, nil
	}
	return Credentials{}, nil
}

// matchesImage reports whether a kubelet's pattern is about an image: its host
// label by label, its port as written, and its path from the front.
func matchesImage(pattern, image string) bool {
	patternHost, patternPath, _ := strings.Cut(withoutScheme(pattern), "/")
	imageHost, imagePath, _ := strings.Cut(image, "/")

	if patternPath = strings.Trim(patternPath, "/"); patternPath != "" &&
		imagePath != patternPath && !strings.HasPrefix(imagePath, patternPath+"/") {
		return false
	}

	patternBare, patternPort := policy.SplitPort(patternHost)
	imageBare, imagePort := policy.SplitPort(imageHost)
	want, got := strings.Split(strings.ToLower(patternBare), "."), strings.Split(imageBare, ".")
	if patternPort != imagePort || len(want) != len(got) {
		return false
	}
	for i := range want {
		if ok, err := path.Match(want[i], got[i]); err != nil || !ok {
			return false
		}
	}
	return true
}

// run runs the plugin to its end, or until its time is over: then it is stopped
// with what it has started. What it writes to standard error goes nowhere.
func (p *Plugin) run(ctx context.Context, image string) ([]byte, error) {
	request, err := json.Marshal(map[string]string{
		"apiVersion": pluginVersion,
		"kind":       pluginRequest,
		"image":      image,
	})
	if err != nil {
		return nil, err
	}

	select {
	case p.runs <- struct{}{}:
		defer func() { <-p.runs }()
	case <-ctx.Done():
		return nil, errors.New("it was not run: too many of its kind run already")
	}

	ctx, cancel := context.WithTimeout(ctx, p.config.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.config.Command, p.config.Args...)
	ownGroup(cmd)
	cmd.WaitDelay = helperGrace
	cmd.Env = p.environment()
	cmd.Stdin = bytes.NewReader(request)
	answer := &bounded{most: maxPluginAnswer}
	cmd.Stdout = answer

	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("it did not answer within %v, and was stopped", p.config.Timeout)
	case answer.full:
		return nil, fmt.Errorf("its answer is longer than %d KiB", maxPluginAnswer>>10)
	case errors.As(err, &exit):
		return nil, fmt.Errorf("it failed: %v", exit.ProcessState)
	case errors.Is(err, exec.ErrWaitDelay):
		return nil, errors.New("it ended, and left its output open")
	case err != nil:
		return nil, errors.New("it cannot be run: " + why(err))
	}
	return answer.text.Bytes(), nil
}

// environment is all that the plugin gets of one.
func (p *Plugin) environment() []string {
	list := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	for _, name := range slices.Sorted(maps.Keys(p.config.Env)) {
		list = append(list, name+"="+p.config.Env[name])
	}
	return list
}

// bounded keeps what is written to it, and no more than most bytes.
type bounded struct {
	text bytes.Buffer
	most int
	full bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.text.Len()+len(p) > b.most {
		b.full = true
		return 0, io.ErrShortWrite
	}
	return b.text.Write(p)
}
