package libvirt

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/digitalocean/go-libvirt"

	"github.com/belljar/belljar/vm"
)

// Sweep destroys the domains and deletes the volumes that dead runs of this Belljar left on libvirt's host. What belongs
// to a living run or to anybody else is never touched. It returns what it removed, a line each.
func (b *Backend) Sweep(ctx context.Context) ([]string, error) {
	l, err := b.link(ctx)
	if err != nil {
		return nil, err
	}
	defer l.hangUp()
	defer context.AfterFunc(ctx, l.hangUp)()
	swept, err := b.sweep(l)
	if err != nil {
		return swept, orCause(ctx, err)
	}
	return swept, nil
}

func (b *Backend) sweep(l *link) ([]string, error) {
	p, err := l.openPool(b.pool())
	if err != nil {
		return nil, err
	}
	domains, _, err := l.ConnectListAllDomains(1, libvirt.ConnectListDomainsActive)
	if err != nil {
		return nil, l.trouble("sweep domains", err)
	}
	volumes, _, err := l.StoragePoolListAllVolumes(p.pool, 1, 0)
	if err != nil {
		return nil, l.trouble("sweep volumes", err)
	}
	// Asked for after the rest: whoever is not among the living now was not when those were listed, or is over since.
	living, err := b.living()
	if err != nil {
		return nil, err
	}
	dead := func(name string) bool {
		rest, mine := strings.CutPrefix(name, b.prefix())
		run, _, named := strings.Cut(rest, ".")
		return mine && named && run != noRun && !living[run]
	}
	var swept []string
	var errs []error
	for _, d := range domains {
		if !dead(d.Name) {
			continue
		}
		err := l.DomainDestroy(d)
		if code := codeOf(err); err != nil && code != libvirt.ErrNoDomain && code != libvirt.ErrOperationInvalid {
			errs = append(errs, fmt.Errorf("destroy domain %s: %w", d.Name, err))
			continue
		}
		swept = append(swept, "domain "+d.Name)
	}
	for _, v := range volumes {
		if !dead(v.Name) {
			continue
		}
		if err := l.StorageVolDelete(v, 0); err != nil && codeOf(err) != libvirt.ErrNoStorageVol {
			errs = append(errs, fmt.Errorf("delete volume %s: %w", v.Name, err))
			continue
		}
		swept = append(swept, "volume "+v.Name)
	}
	if err := errors.Join(errs...); err != nil {
		return swept, l.trouble("sweep", err)
	}
	return swept, nil
}

// living are the runs that still run.
func (b *Backend) living() (map[string]bool, error) {
	runs, err := vm.OpenRuns(b.Runs)
	if err != nil {
		return nil, err
	}
	all, err := runs.List()
	if err != nil {
		return nil, err
	}
	living := map[string]bool{}
	for _, r := range all {
		living[notName.ReplaceAllString(r.ID, "-")] = r.State == vm.Running
	}
	return living, nil
}
