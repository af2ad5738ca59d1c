package sigstore

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"time"
)

// start runs a server until Close, and waits until url answers 200, ten seconds at most.
func (s *Stack) start(name, url string, env []string, command string, args ...string) error {
	out, err := os.Create(s.file(name + ".log"))
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.CommandContext(s.running, command, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.Dir}, env...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s (.ci/install brings it): %w", command, err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed in the end, which is no failure
		close(ended)
	}()
	s.atClose(func() error { <-ended; return nil })
	for range 500 {
		if resp, err := http.Get(url); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ended:
			return fmt.Errorf("%s ended instead of answering %s: %s", name, url, lastLines(out.Name()))
		case <-time.After(20 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s does not answer %s within 10 s: %s", name, url, lastLines(out.Name()))
}

// lastLines is the end of a log, for an error.
func lastLines(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-1500):])
}

// freePorts finds ports that nobody listens on at the moment, all different.
func freePorts(n int) (ports []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	return ports, nil
}
