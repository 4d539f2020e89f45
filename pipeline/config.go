package pipeline

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/fetch"
)

// configFile is the user's configuration file, whole.
type configFile struct {
	fetch.Config `yaml:",inline"`

	Backend string `yaml:"backend"` // qemu or libvirt
	Connect string `yaml:"connect"` // libvirt's URI
	Pool    string `yaml:"pool"`    // libvirt's storage pool
}

// readConfig reads it; one that is not there says nothing.
func readConfig(path string) (configFile, error) {
	c := configFile{Config: fetch.Config{Path: path}}
	if path == "" {
		return c, nil
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fault.New(fault.Input, "read configuration", "%w", err)
	}
	if len(strings.TrimSpace(string(b))) == 0 {
		return c, nil
	}
	if err := yaml.UnmarshalWithOptions(b, &c, yaml.Strict()); err != nil {
		return c, fault.New(fault.Input, "read configuration", "%s: %s", path, yaml.FormatError(err, false, true)).
			WithRemedy("The file's keys are 'mirror:', a list of URLs and folders, 'proxy:' and 'snapshot:', a URL each, " +
				"and 'backend:', 'connect:' and 'pool:'.")
	}
	return c, nil
}

// machines says what runs the machines, and where: what the command line said in c, else the environment, else the
// configuration file. What those two say of libvirt waits for that backend; on the command line it wants it now.
func (c Config) machines(file configFile, getenv func(string) string) Config {
	c.Backend = cmp.Or(c.Backend, getenv("BELLJAR_BACKEND"), file.Backend)
	if c.Backend == BackendLibvirt {
		c.Connect = cmp.Or(c.Connect, getenv("BELLJAR_CONNECT"), getenv("LIBVIRT_DEFAULT_URI"), file.Connect)
		c.Pool = cmp.Or(c.Pool, getenv("BELLJAR_POOL"), file.Pool)
	}
	return c
}
