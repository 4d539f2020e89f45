// Package libvirt knows how to start a vm.Machine as a transient libvirt domain, on this host or on another, how to hear
// what becomes of it, and how to leave nothing of it behind.
//
// Its parts: DomainXML (a pure function from a Machine to a domain), the target (a URI and the way there: a Unix
// socket, TCP, ssh), the link (a connection to libvirtd for calls and events, through go-libvirt), the stream (a console, a
// channel or a volume as a net.Conn over libvirt's own streams), the volumes (a machine's files in a storage pool) and
// the guest. It shares no file with libvirt's host, and opens no connection to it but those to libvirtd.
// It refuses to know what runs in the machine, and it never reads the console to find out.
package libvirt

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/digitalocean/go-libvirt"

	"github.com/belljar/belljar/fault"
	"github.com/belljar/belljar/vm"
)

// Backend runs machines as domains of a libvirtd. The zero value uses the system's own, and its pool 'default'.
type Backend struct {
	// URI says which libvirtd, and how to reach it; empty is DefaultURI. See docs/libvirt.md.
	URI string
	// Pool is the storage pool for machines' files, of a type whose volumes are files; empty is DefaultPool.
	Pool string
	// Runs is the folder of runs (vm.OpenRuns), in which the machines' folders lie. With this host's name it tells this
	// Belljar's domains and volumes from those of others; the run tells, when it is over, that they are left behind.
	Runs string
	// Grace is how long Close waits for a guest that was asked to power off, and then for QEMU that was asked to
	// quit; 0 is two seconds.
	Grace time.Duration
}

var (
	_ vm.Backend    = (*Backend)(nil)
	_ vm.HostTeller = (*Backend)(nil)
	_ vm.Sweeper    = (*Backend)(nil)
)

// The defaults of Backend's fields.
const (
	DefaultPool  = "default"
	defaultGrace = 2 * time.Second
)

// domainFile describes the domain, in a machine's folder beside its logs.
const domainFile = "domain.xml"

func (b *Backend) target() (target, error) {
	if b.URI == "" {
		return parseURI(DefaultURI)
	}
	return parseURI(b.URI)
}

func (b *Backend) pool() string {
	if b.Pool == "" {
		return DefaultPool
	}
	return b.Pool
}

// prefix begins the name of everything that this Belljar makes on libvirt's host.
func (b *Backend) prefix() string {
	host, _ := os.Hostname()
	sum := sha256.Sum256([]byte(host + "\x00" + b.Runs))
	return "belljar." + hex.EncodeToString(sum[:4]) + "."
}

var notName = regexp.MustCompile(`[^A-Za-z0-9-]+`)

// noRun stands for the run of a machine whose folder is not in a run's.
const noRun = "_"

// run names the run that a machine's folder belongs to.
func (b *Backend) run(dir string) string {
	rel, err := filepath.Rel(b.Runs, dir)
	if err != nil || b.Runs == "" || strings.HasPrefix(rel, "..") {
		return noRun
	}
	first, _, _ := strings.Cut(rel, string(filepath.Separator))
	return notName.ReplaceAllString(first, "-")
}

// Start boots m. It returns when the first instruction may run; logs and the domain's description lie in dir, which must
// exist. The machine lives no longer than ctx, and no longer than this process: libvirtd destroys it when the
// connection that it was made over closes. A failed Start leaves nothing behind.
func (b *Backend) Start(ctx context.Context, m vm.Machine, dir string) (_ vm.Guest, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := m.Validate(); err != nil {
		return nil, fault.New(fault.Usage, "start "+m.Name, "%w", err)
	}
	t, err := b.target()
	if err != nil {
		return nil, err
	}
	l, err := t.connect(ctx)
	if err != nil {
		return nil, err
	}
	life := vm.NewLife(m.Name)
	g := &guest{
		Life: life, Logs: vm.Logs{Dir: dir, Until: life.Gone()}, link: l, hasOS: m.Boot.Kernel != "", screen: m.Screen, grace: b.Grace,
		command: fmt.Sprintf("virsh -c %s create %s", quote(t.uri), quote(filepath.Join(dir, domainFile))),
		over:    make(chan struct{}), ports: map[string]*stream{},
	}
	if g.grace == 0 {
		g.grace = defaultGrace
	}
	// The way out of every call in here: go-libvirt knows no context.
	stop := context.AfterFunc(ctx, l.hangUp)
	defer func() {
		stop()
		if err != nil {
			g.abort()
			err = orCause(ctx, err)
		}
	}()
	if err := g.define(ctx, b, m); err != nil {
		return nil, err
	}
	if err := g.begin(ctx, m); err != nil {
		return nil, err
	}
	if !stop() {
		return nil, context.Cause(ctx)
	}
	g.watch(ctx)
	return g, nil
}

// define brings the machine's files to libvirt's host and describes the domain.
func (g *guest) define(ctx context.Context, b *Backend, m vm.Machine) error {
	if err := g.Create(); err != nil {
		return fault.New(fault.Host, "start "+m.Name, "%w", err)
	}
	p, err := g.link.openPool(b.pool())
	if err != nil {
		return err
	}
	var id [4]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	name := b.prefix() + b.run(g.Dir) + "." + hex.EncodeToString(id[:])
	g.volumes = &volumes{pool: p, prefix: name + ".", disks: map[string]libvirt.StorageVol{}}

	place := Place{Name: name}
	for _, f := range []struct {
		what, from string
		to         *string
	}{
		{"kernel", m.Boot.Kernel, &place.Kernel}, {"initrd", m.Boot.Initrd, &place.Initrd}, {"rom", m.Boot.ROM, &place.ROM},
		{"vars", m.Boot.Vars, &place.Vars},
	} {
		if f.from == "" {
			continue
		}
		if *f.to, err = g.volumes.put(ctx, f.what, f.from); err != nil {
			return err
		}
	}
	for _, d := range m.Disks {
		at, err := g.volumes.putDisk(ctx, d)
		if err != nil {
			return err
		}
		place.Disks = append(place.Disks, at)
	}
	if g.xml, err = DomainXML(m, place); err != nil {
		return fault.New(fault.Usage, "start "+m.Name, "%w", err)
	}
	if err := os.WriteFile(filepath.Join(g.Dir, domainFile), []byte(g.xml), 0o644); err != nil {
		return fault.New(fault.Host, "start "+m.Name, "domain: %w", err)
	}
	return nil
}

// begin creates the domain, takes hold of everything that it will say, and lets it run.
func (g *guest) begin(ctx context.Context, m vm.Machine) error {
	op := "start " + m.Name
	// Before the domain is there: its end cannot be missed.
	life, err := g.link.LifecycleEvents(context.Background())
	if err != nil {
		return g.link.trouble(op, err)
	}
	g.domain, err = g.link.DomainCreateXML(g.xml, libvirt.DomainStartPaused|libvirt.DomainStartAutodestroy)
	if err != nil {
		go discard(life)
		return g.evidence(g.link.trouble(op, err))
	}
	monitor, err := g.link.SubscribeQEMUEvents(context.Background(), g.domain.Name)
	if err != nil {
		go discard(life)
		return g.link.trouble(op, err)
	}
	go g.listen(life, monitor)
	if err := g.enforce(); err != nil {
		return err
	}
	if err := g.openStreams(ctx, m); err != nil {
		return g.link.trouble(op, err)
	}
	if err := g.link.DomainResume(g.domain); err != nil {
		return g.link.trouble(op, err)
	}
	return nil
}

// openStreams takes hold of consoles and ports while the machine has not run yet: no byte is lost, and the ports are
// 'open' from the guest's first look on.
func (g *guest) openStreams(ctx context.Context, m vm.Machine) error {
	logs := map[string]string{consoleChannel: vm.ConsoleLog}
	if m.DebugCon {
		logs[debugconChannel] = vm.DebugconLog
	}
	for name, file := range logs {
		s, err := g.link.open(ctx, procDomainOpenChannel, domainArgs(g.domain).option(name).word(0))
		if err != nil {
			return fmt.Errorf("open %s: %w", file, err)
		}
		if err := g.keep(s, file); err != nil {
			s.Close()
			return err
		}
	}
	for _, name := range m.Ports {
		s, err := g.link.open(ctx, procDomainOpenChannel, domainArgs(g.domain).option(name).word(0))
		if err != nil {
			return fmt.Errorf("open port %s: %w", name, err)
		}
		g.ports[name], g.lines = s, append(g.lines, s)
		go s.guard()
	}
	return nil
}
