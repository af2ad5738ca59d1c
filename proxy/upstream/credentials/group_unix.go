//go:build unix

package credentials

import (
	"os/exec"
	"syscall"
)

// ownGroup stops with a helper what the helper has started.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
