package vm

import "context"

// HostTeller is a Backend whose machines are run by a daemon, perhaps on another host: what this host's own devices and
// programs say means nothing there.
type HostTeller interface {
	// Host asks the daemon about itself and its host.
	Host(ctx context.Context) (Host, error)
}

// Host is where a daemon runs machines.
type Host struct {
	Daemon    string // libvirt
	Version   string // the daemon's: 9.0.0
	Transport string // how it was reached: unix, tcp or ssh
	UUID      string // names the host, by whatever address it was reached
	Arch      string // of its processors: x86_64
	CPUs      int    // count
	Memory    int64  // bytes
	Pool      string // of storage, where the machines' files go
	Free      int64  // bytes in the pool; negative: not known
}

// Sweeper is a Backend on whose host a killed program leaves things behind that are not in a run's folder.
type Sweeper interface {
	// Sweep removes what dead runs left there, and spares what living ones use. It says what it removed, a line each.
	Sweep(ctx context.Context) ([]string, error)
}
