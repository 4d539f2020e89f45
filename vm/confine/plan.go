// Package confine knows how to put a program behind walls of the kernel's before it runs: a user of its own, Landlock
// (Documentation/userspace-api/landlock.rst), a network namespace with nothing in it, a cgroup with limits.
//
// A Plan says what a program may do and is a plain value. Enter carries it out on the calling thread and then becomes
// the program: what it gives up can never be had back (no_new_privs). Each wall stands for itself: where the kernel or
// the host refuses one the others are built all the same, and the Report says which is missing.
//
// It refuses to know what the program is. Package supervise puts Enter between the supervisor and the program.
package confine

// Plan is what a program is confined to.
type Plan struct {
	UID     int    `json:"uid,omitempty"`     // the user and the group it runs as; 0 is whoever starts it, without capabilities
	Groups  []int  `json:"groups,omitempty"`  // its supplementary groups, when its user changes
	Network bool   `json:"network,omitempty"` // try for an empty network namespace: see Isolate
	Files   []File `json:"files,omitempty"`   // handed over open: the i-th is descriptor FirstFile+i
	Paths   []Path `json:"paths"`             // all that it may open by name, where the kernel has Landlock
	Cgroup  string `json:"cgroup,omitempty"`  // folder of the cgroup that it joins; empty is none
	Threads int    `json:"threads,omitempty"` // how many it may have, when its user is its own; 0 is no limit
}

// FirstFile is the descriptor of a Plan's first file. Below it there is room for what the starting program itself has
// open.
const FirstFile = 64

// File is an open file that the program gets: it is opened before the user changes.
type File struct {
	Path  string `json:"path"`
	Write bool   `json:"write,omitempty"` // for reading and writing, not only for reading
	// Copy hands over a copy in memory if others than the owner may not read the file, such that the program can
	// open /proc/self/fd/N: that asks for permission anew, and of the file itself. For small files that are only read.
	Copy bool `json:"copy,omitempty"`
}

// Access is what a program may do with a path.
type Access string

// The kinds of access. A folder stands for all that is below it.
const (
	Read    Access = "read"    // read files and folders
	Execute Access = "execute" // and run programs
	Write   Access = "write"   // read and write a file, not make one
	Device  Access = "device"  // read, write and ioctl(2)
	Folder  Access = "folder"  // make, read, write and remove files, and sockets, and connect to those
)

// Path is something that a program may open by name; never the root folder. One that is not there allows nothing, and is no error: it is the
// program that says best what it misses.
type Path struct {
	Path   string `json:"path"`
	Access Access `json:"access"`
}

// Report is what became of a Plan.
type Report struct {
	Landlock int    `json:"landlock"` // the kernel's ABI version; 0: not in force
	Network  bool   `json:"network"`  // the program has an empty network namespace
	Cgroup   bool   `json:"cgroup"`   // it is in its cgroup
	Failed   Failed `json:"failed"`   // what was tried and refused, by the Plan's word for it
}

// Failed are refusals of the kernel's, in its words: "user", "network", "landlock", "cgroup", "limits".
type Failed map[string]string
