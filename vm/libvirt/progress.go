package libvirt

import (
	"context"
	"time"

	"github.com/belljar/belljar/vm"
)

// answerLimit is how long libvirtd and QEMU may take for a sample, as for vm/qemu.
const answerLimit = 2 * time.Second

// Progress takes a sample from libvirtd, from QEMU's monitor through it, and from what came over the streams. How long
// the processors waited for the host, and the state of QEMU's process, are not to be had.
func (g *guest) Progress(ctx context.Context) (vm.Progress, error) {
	done, err := g.Probe(ctx)
	if err != nil {
		return vm.Progress{}, err
	}
	defer done()
	if g.asked == nil { // nobody waits for an answer
		answer := make(chan vm.Progress, 1)
		go func() { answer <- g.ask() }()
		g.asked = answer
	}
	select {
	case p := <-g.asked: // what is not answered stays as it was: the counters only grow
		g.asked = nil
		g.sample.Mute, g.sample.Halted, g.sample.Full = p.Mute, p.Halted, vm.NoSpace(g.Events())
		g.sample.CPU = max(g.sample.CPU, p.CPU)
		g.sample.Read, g.sample.Written = max(g.sample.Read, p.Read), max(g.sample.Written, p.Written)
	case <-time.After(answerLimit):
		g.sample.Mute = true
	case <-ctx.Done():
		return vm.Progress{}, context.Cause(ctx)
	}
	g.sample.Resets = g.Resets()
	g.sample.Console = g.Said()
	g.sample.Ports = 0
	for _, s := range g.lines {
		g.sample.Ports += s.received.Load()
	}
	return g.sample, nil
}

// ask asks what only libvirtd and QEMU know: virDomainGetVcpus, qapi/run-state.json and qapi/block-core.json.
func (g *guest) ask() (p vm.Progress) {
	cpus, _, err := g.link.DomainGetVcpus(g.domain, 255, 0)
	if err != nil {
		p.Mute = true
		return p
	}
	for _, c := range cpus {
		p.CPU += time.Duration(c.CPUTime)
	}
	var status struct {
		Return struct{ Status string } `json:"return"`
	}
	var disks struct {
		Return []struct {
			Stats struct {
				Read    int64 `json:"rd_bytes"`
				Written int64 `json:"wr_bytes"`
			}
		} `json:"return"`
	}
	if g.monitor(&status, `{"execute":"query-status"}`) != nil || g.monitor(&disks, `{"execute":"query-blockstats"}`) != nil {
		p.Mute = true
		return p
	}
	p.Halted = vm.Halted(status.Return.Status)
	for _, d := range disks.Return {
		p.Read += d.Stats.Read
		p.Written += d.Stats.Written
	}
	return p
}
