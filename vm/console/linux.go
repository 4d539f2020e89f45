package console

import "regexp"

// Trouble is what a line on a Linux guest's console says of the guest's health.
type Trouble int

// The troubles, from the least.
const (
	None        Trouble = iota
	OutOfMemory         // the kernel killed a process for want of memory; the guest itself goes on
	Doubt               // the kernel doubts that it gets on; on a busy host it often errs
	Lost                // nothing good comes after it
)

// The lines, by their sources in the kernel's tree. A line is what the first list that fits says: lockups begin with
// 'BUG:' as well.
var (
	// LinuxDoubts: kernel/watchdog.c, kernel/workqueue.c, kernel/rcu/tree_stall.h, kernel/hung_task.c and
	// kernel/time/clocksource.c measure time that passed, and believe that they themselves ran all the while. An emulated
	// guest that the host let wait for twenty seconds says the same as one that locked up, and then goes on. So none of
	// them ends a guest: they are evidence, and shorten the patience with a guest that does not answer either.
	LinuxDoubts = []*regexp.Regexp{
		regexp.MustCompile(`\bBUG: (soft lockup|workqueue lockup)`),
		regexp.MustCompile(`\bWatchdog detected hard LOCKUP`),
		regexp.MustCompile(`\brcu: INFO: \w+ (self-)?detected (expedited )?stalls?\b`),
		regexp.MustCompile(`\brcu: \w+ kthread (starved|timer wakeup didn't happen) for`),
		regexp.MustCompile(`\bINFO: task .* blocked for more than \d+ seconds`),
		regexp.MustCompile(`\bINFO: NMI handler .* took too long`),
		regexp.MustCompile(`\bclocksource: timekeeping watchdog on CPU\d+: Marking clocksource`),
	}
	// LinuxOutOfMemory: mm/oom_kill.c. Most often it is a compiler of the build that goes, and the build says so.
	LinuxOutOfMemory = []*regexp.Regexp{
		regexp.MustCompile(`\b(Out of memory|Memory cgroup out of memory): Killed process`),
		regexp.MustCompile(`\binvoked oom-killer\b`),
		regexp.MustCompile(`\boom-kill:constraint=`),
	}
	// LinuxFaults: kernel/panic.c, lib/bug.c, arch/x86/kernel/dumpstack.c and traps.c. A kernel may go on after a BUG or an
	// Oops, but it has lost a task and perhaps a lock: what it builds is not to be believed.
	LinuxFaults = []*regexp.Regexp{
		regexp.MustCompile(`\bKernel panic - not syncing`),
		regexp.MustCompile(`\bBUG: `),
		regexp.MustCompile(`\bkernel BUG at `),
		regexp.MustCompile(`\bOops: `),
		regexp.MustCompile(`\b(general protection fault|double fault|divide error|invalid opcode): [0-9a-f]{4} \[#\d+\]`),
		regexp.MustCompile(`\bUnable to mount root fs\b`),
		regexp.MustCompile(`\bAttempted to kill init\b`),
	}
)

// LinuxTrouble says what a line means.
func LinuxTrouble(line string) Trouble {
	for _, l := range []struct {
		patterns []*regexp.Regexp
		is       Trouble
	}{{LinuxDoubts, Doubt}, {LinuxOutOfMemory, OutOfMemory}, {LinuxFaults, Lost}} {
		for _, re := range l.patterns {
			if re.MatchString(line) {
				return l.is
			}
		}
	}
	return None
}
