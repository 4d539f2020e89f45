package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/belljar/belljar/vm"
)

// answerLimit is how long the monitor may take for a sample. A QEMU whose main loop turns answers within milliseconds;
// five busy hosts' worth of patience is still shorter than the time between two samples.
const answerLimit = 2 * time.Second

// Progress takes a sample from the monitor, the logs and /proc.
func (g *guest) Progress(ctx context.Context) (vm.Progress, error) {
	done, err := g.Probe(ctx)
	if err != nil {
		return vm.Progress{}, err
	}
	defer done()
	p := &g.sample // what the monitor does not answer stays as it was: the counters only grow
	p.PID, p.Resets, p.Mute = g.process.PID, g.Resets(), false
	if err := g.askMonitor(p); err != nil {
		p.Mute = true
	}
	p.Console = g.Said()
	p.Ports = 0
	for _, port := range g.ports {
		p.Ports += port.received.Load()
	}
	if state, err := stands(g.process.PID); err == nil {
		p.State = state
	}
	if times, err := ranAndWaited(g.process.PID, g.vcpus); err == nil {
		g.addTimes(p, times)
	}
	return *p, nil
}

// askMonitor asks QEMU what only it knows: qapi/run-state.json, qapi/machine.json and qapi/block-core.json.
func (g *guest) askMonitor(p *vm.Progress) error {
	var status struct{ Status string }
	if err := g.monitor.ask(answerLimit, "query-status", nil, &status); err != nil {
		return err
	}
	p.Halted, p.Full = vm.Halted(status.Status), vm.NoSpace(g.Events())
	if g.vcpus == nil {
		var cpus []struct {
			Thread int `json:"thread-id"`
		}
		if err := g.monitor.ask(answerLimit, "query-cpus-fast", nil, &cpus); err != nil {
			return err
		}
		for _, c := range cpus {
			g.vcpus = append(g.vcpus, c.Thread)
		}
	}
	var disks []struct {
		Stats struct {
			Read    int64 `json:"rd_bytes"`
			Written int64 `json:"wr_bytes"`
		}
	}
	if err := g.monitor.ask(answerLimit, "query-blockstats", nil, &disks); err != nil {
		return err
	}
	p.Read, p.Written = 0, 0
	for _, d := range disks {
		p.Read += d.Stats.Read
		p.Written += d.Stats.Written
	}
	return nil
}

// stands is the state of a process (proc_pid_stat(5)), but 'D' as soon as any of its threads waits for the host's disk.
func stands(pid int) (string, error) {
	state, _, err := stat(pid, pid)
	if err != nil {
		return "", err
	}
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return "", err
	}
	for _, t := range all {
		tid, _ := strconv.Atoi(t.Name()) // the kernel lists nothing else there
		if s, _, err := stat(pid, tid); err == nil && s == "D" {
			return s, nil
		}
	}
	return state, nil
}

// tick is the unit of times in stat files: USER_HZ is 100 on x86, whatever the kernel's own HZ is.
const tick = time.Second / 100

// stat reads a thread's state, and how long it ran. The file's second field is the program's name in brackets, and may
// hold anything, brackets too.
func stat(pid, tid int) (state string, ran time.Duration, err error) {
	path := fmt.Sprintf("/proc/%d/task/%d/stat", pid, tid)
	data, err := os.ReadFile(path)
	if err != nil {
		return "", 0, err
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	const utime, stime = 14 - 3, 15 - 3 // proc_pid_stat(5) counts from 1, and the state is the third
	if len(fields) <= stime {
		return "", 0, fmt.Errorf("%s: %d fields behind the name: want more than %d", path, len(fields), stime)
	}
	user, err1 := strconv.ParseInt(fields[utime], 10, 64)
	system, err2 := strconv.ParseInt(fields[stime], 10, 64)
	return fields[0], time.Duration(user+system) * tick, errors.Join(err1, err2)
}

// times are how long a thread ran, and how long it waited for a processor of the host.
type times struct{ ran, waited time.Duration }

// addTimes adds what the processors' threads did since the last sample.
func (g *guest) addTimes(p *vm.Progress, now []times) {
	p.CPU, p.Starved = 0, 0
	var busiest time.Duration
	for i, t := range now {
		p.CPU += t.ran
		p.Starved += t.waited
		if i < len(g.times) {
			t.ran -= g.times[i].ran
			t.waited -= g.times[i].waited
		}
		busiest = max(busiest, t.ran+t.waited)
	}
	p.Demand += busiest
	g.times = now
}

// ranAndWaited are the first two fields of each thread's schedstat (Documentation/scheduler/sched-stats.rst in the
// kernel's tree), in nanoseconds. A kernel without it tells the first by stat.
func ranAndWaited(pid int, tids []int) ([]times, error) {
	all := make([]times, len(tids))
	for i, tid := range tids {
		t := &all[i]
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/schedstat", pid, tid))
		if err == nil {
			_, err = fmt.Sscan(string(data), (*int64)(&t.ran), (*int64)(&t.waited))
		}
		if err != nil {
			_, t.ran, err = stat(pid, tid)
		}
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}
