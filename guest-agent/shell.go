package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/belljar/belljar/guest-agent/wire"
)

// shell becomes a shell with a stage's user, folder and environment, on the terminal that sshd made.
func shell(j *jar, spec string) error {
	var st wire.Stage
	b, err := base64.StdEncoding.DecodeString(spec)
	if err != nil {
		return fmt.Errorf("shell: %w", err)
	}
	if err := json.Unmarshal(b, &st); err != nil {
		return fmt.Errorf("shell: %w", err)
	}
	env := environ(st.Env)
	if term, ok := os.LookupEnv("TERM"); ok && st.Env["TERM"] == "" {
		env = append(env, "TERM="+term)
	}
	if err := os.Chdir(st.WorkDir); err != nil {
		return err
	}
	_ = setOOM("self", stageOOM) // a person's work, like a stage's, goes before the agent
	if !st.Root && j.user != nil {
		if err := become(j.user); err != nil {
			return err
		}
	}
	for _, prog := range []string{"/bin/bash", "/bin/sh"} {
		if err = syscall.Exec(prog, []string{prog, "-i"}, env); !errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	return fmt.Errorf("shell: %w", err)
}

// become gives root up for good. The terminal goes with it, else programs cannot open it by name.
func become(u *syscall.Credential) error {
	_ = unix.Fchown(0, int(u.Uid), -1) // a pipe in place of a terminal does not matter
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("setgroups: %w", err)
	}
	if err := syscall.Setgid(int(u.Gid)); err != nil {
		return fmt.Errorf("setgid: %w", err)
	}
	if err := syscall.Setuid(int(u.Uid)); err != nil {
		return fmt.Errorf("setuid: %w", err)
	}
	return nil
}
