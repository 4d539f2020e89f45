package console

import "testing"

// Lines as kernels print them.
func TestLinuxTrouble(t *testing.T) {
	for line, want := range map[string]Trouble{
		"": None,
		"[    0.000000] Linux version 6.1.0-49-amd64":                                                                 None,
		"[    1.2] systemd[1]: Out of memory handling":                                                                None,
		"checking for BUGs... none":                                                                                   None,
		"cc1: error: Oops, no such file":                                                                              None,
		"[    4.1] Kernel panic - not syncing: sysrq triggered crash":                                                 Lost,
		"[    2.0] Kernel panic - not syncing: System is deadlocked on memory":                                        Lost,
		"[    4.1] ---[ end Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0) ]---":      Lost,
		"[   12.3] BUG: unable to handle page fault for address: ffffffffc0000000":                                    Lost,
		"[   12.3] BUG: kernel NULL pointer dereference, address: 0000000000000000":                                   Lost,
		"[   12.3] BUG: Bad page state in process cc1  pfn:12345":                                                     Lost,
		"[   12.3] kernel BUG at mm/slub.c:435!":                                                                      Lost,
		"[   12.3] Oops: 0002 [#1] PREEMPT SMP NOPTI":                                                                 Lost,
		"[   12.3] general protection fault: 0000 [#1] SMP":                                                           Lost,
		"[   12.3] invalid opcode: 0000 [#1] PREEMPT SMP NOPTI":                                                       Lost,
		"[   92.0] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [cc1:1234]":                                      Doubt,
		"[   92.0] BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 37s!":                        Doubt,
		"[   92.0] watchdog: Watchdog detected hard LOCKUP on cpu 1":                                                  Doubt,
		"[   92.0] rcu: INFO: rcu_preempt self-detected stall on CPU":                                                 Doubt,
		"[   92.0] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:":                                             Doubt,
		"[   92.0] rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 1-... } 21 jiffies s: 77":        Doubt,
		"[   92.0] rcu: rcu_preempt kthread starved for 5252 jiffies! g1389 f0x0 RCU_GP_WAIT_FQS(5) ->state=0x0":      Doubt,
		"[  242.0] INFO: task jbd2/vda-8:77 blocked for more than 120 seconds.":                                       Doubt,
		"[   33.0] clocksource: timekeeping watchdog on CPU0: Marking clocksource 'tsc' as unstable because the skew": Doubt,
		"[   61.0] Out of memory: Killed process 812 (cc1plus) total-vm:914000kB, anon-rss:712000kB":                  OutOfMemory,
		"[   61.0] cc1plus invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE), order=0":                      OutOfMemory,
		"[   61.0] oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),task=cc1plus,pid=812,uid=1000":                 OutOfMemory,
	} {
		if got := LinuxTrouble(line); got != want {
			t.Errorf("%q: %d, want %d", line, got, want)
		}
	}
}
