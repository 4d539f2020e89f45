package image

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/belljar/belljar/image/initramfs"
)

// packedModules are the modules of a kernel package, as they lie in it: each is unpacked and looked into when somebody
// asks for it, for a guest needs forty of four thousand.
type packedModules struct {
	packed         map[string]packedModule
	info           map[string]initramfs.ModInfo // of those that were looked into
	deps           map[string][]string          // modules.dep; nil where the package has none
	builtin        map[string]bool
	builtinAliases map[string]bool
	aliases        map[string]string // see Alias; nil until somebody asks
}

type packedModule struct {
	path string
	size int64
	data content
}

// Module is for initramfs.LoadOrder.
func (p *packedModules) Module(name string) (initramfs.ModInfo, bool, error) {
	if m, ok := p.info[name]; ok {
		return m, true, nil
	}
	packed, ok := p.packed[name]
	if !ok {
		return initramfs.ModInfo{}, false, nil
	}
	ko, err := packed.read()
	if err != nil {
		return initramfs.ModInfo{}, false, fmt.Errorf("%s: %w", packed.path, err)
	}
	m, err := initramfs.ParseModule(ko)
	if err != nil {
		return initramfs.ModInfo{}, false, fmt.Errorf("%s: %w", packed.path, err)
	}
	if deps, ok := p.deps[name]; ok {
		m.Depends = deps
	}
	p.info[name] = m
	return m, true, nil
}

// Alias looks among the modules with algorithms: the other aliases name hardware.
func (p *packedModules) Alias(alias string) (string, error) {
	if p.aliases == nil {
		have := map[string]initramfs.ModInfo{}
		for name, packed := range p.packed {
			if !strings.Contains(packed.path, "/crypto/") || strings.Contains(packed.path, "/drivers/") {
				continue
			}
			m, _, err := p.Module(name)
			if err != nil {
				return "", err
			}
			have[name] = m
		}
		p.aliases = initramfs.ByAlias(have)
	}
	return p.aliases[alias], nil
}

// Builtin is for initramfs.LoadOrder.
func (p *packedModules) Builtin(name string) bool { return p.builtin[name] || p.builtinAliases[name] }

// unpack writes a module as the kernel takes it from busybox's insmod: not compressed.
func (p *packedModules) unpack(name, file string) error {
	ko, err := p.packed[name].read()
	if err != nil {
		return err
	}
	return writeFile(file, bytes.NewReader(ko))
}

func (m packedModule) read() ([]byte, error) {
	if m.data == nil {
		return nil, nil
	}
	z, err := decompress(m.data())
	if err != nil {
		return nil, err
	}
	defer z.Close()
	ko, err := io.ReadAll(io.LimitReader(z, maxModule+1))
	if err == nil && len(ko) > maxModule {
		err = fmt.Errorf("more than %d bytes", maxModule)
	}
	return ko, err
}
