// Package debian knows the formats of a Debian archive and of dpkg's database: packages (deb(5)), control files
// (deb822(5)), versions (deb-version(7)), relations between packages, signed releases, indexes, source packages, and
// the entries that an unpacked package leaves in /var/lib/dpkg.
//
// It refuses to know where the bytes come from and where they go: it reads from an io.Reader or from a Getter, opens no
// socket, starts no process, and writes no file. It knows nothing of disks, guests or locks.
//
// All of it reads foreign bytes. A malformed one is a fault of kind Input that names the object, the line or member,
// and what was expected there; a failure of the source itself (a cut connection, a failing disk) is handed on as it
// came.
package debian
