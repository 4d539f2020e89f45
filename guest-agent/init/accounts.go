package main

import (
	"errors"
	"io/fs"
	"os"
	"strings"
)

// accounts are those without which nothing works in a first layer, in which nothing is configured: sshd's, and the one that
// runs the stages. Configuring the image takes these lines out again before openssh-server's own postinst adds its user.
var accounts = []struct{ file, line string }{
	{"/etc/passwd", "sshd:*:100:65534::/run/sshd:/usr/sbin/nologin"},
	{"/etc/passwd", "build:*:1000:1000::/build/home:/bin/sh"},
	{"/etc/group", "build:*:1000:"},
}

// addAccounts adds those that a root lacks.
func addAccounts(root string) error {
	for _, a := range accounts {
		b, err := os.ReadFile(root + a.file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		name, _, _ := strings.Cut(a.line, ":")
		if strings.Contains("\n"+string(b), "\n"+name+":") {
			continue
		}
		f, err := os.OpenFile(root+a.file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		_, err = f.WriteString(a.line + "\n")
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// makeRunFolders makes what programs expect below /run, which is empty at power-on.
func makeRunFolders(root string) error {
	for _, name := range []string{"/run/sshd", "/run/lock"} {
		if err := os.Mkdir(root+name, 0o755); err != nil {
			return err
		}
	}
	return nil
}
