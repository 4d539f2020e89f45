package wire

// Where a program lay that a stage ran.
const (
	FromRoot  = "root"  // in the guest's verified root: told by path alone, for the host has the same bytes
	FromInput = "input" // on the input disk, as it came: a source's file or the output of a stage before
	FromMade  = "made"  // anywhere else: made, changed or unpacked in this guest
)

// Program is one file that the kernel opened in order to run it: what execve(2) was given, the interpreter of a script,
// the dynamic linker of a dynamic program. What these read as data (a shell's script, a shared library) is none.
type Program struct {
	Path   string `json:"path"` // absolute, as it was when the program was run
	From   string `json:"from"`
	SHA256 string `json:"sha256,omitempty"` // taken before it ran; none: FromRoot, or the rest at a path with too many contents
	Size   int64  `json:"size,omitempty"`
	Runs   int64  `json:"runs"` // how often the kernel opened it so; repeated runs of the root's by one process may count once
}

// Bounds on what is listed of a stage that makes program after program, as configure scripts do. They keep a message
// below MaxFrame: each byte of a path takes at most six in JSON.
const (
	MaxContents  = 64       // programs of different content at one path; the rest is counted there without a digest
	MaxPrograms  = 1500     // in all
	MaxPathBytes = 96 << 10 // of all paths together
)

// Programs is every program that a stage ran, sorted by path and digest.
type Programs struct {
	List     []Program `json:"list"`
	Unlisted int64     `json:"unlisted"` // runs of programs beyond the bounds
	Lost     int64     `json:"lost"`     // times that the kernel could not tell what it ran
}
