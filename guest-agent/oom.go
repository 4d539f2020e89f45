package main

import (
	"fmt"
	"os"
	"strconv"
)

// Whom the kernel kills in a shortage of memory (proc_pid_oom_score_adj(5)): never the agent, rather the stage's than
// anybody else's. Whom it killed, its console says.
const (
	agentOOM = -1000
	stageOOM = 500
)

// guard takes the agent out of the kernel's choice, and in a guest its peer with the processes above that: sshd carries its
// words.
func (j *jar) guard(peer int) {
	j.guarded = setOOM("self", agentOOM) == nil // not so where a test lacks the privilege
	if j.disks != "" || !j.guarded {
		return
	}
	for pid := peer; pid > 1; {
		_ = setOOM(strconv.Itoa(pid), agentOOM)
		pid = parentOf(pid)
	}
}

func setOOM(pid string, score int) error {
	return os.WriteFile("/proc/"+pid+"/oom_score_adj", []byte(strconv.Itoa(score)), 0)
}

// parentOf is a process's parent, 0 if it is gone.
func parentOf(pid int) int {
	var ppid int
	for _, line := range readLines(fmt.Sprintf("/proc/%d/status", pid)) {
		if n, _ := fmt.Sscanf(line, "PPid:\t%d", &ppid); n == 1 {
			return ppid
		}
	}
	return 0
}
