// Package cbfs reads CBFS, coreboot's file system: what files there are, where, and what is in them.
//
// The format stands in coreboot, src/commonlib/bsd/include/commonlib/bsd/cbfs_serialized.h; how the firmware walks through
// it in src/commonlib/bsd/cbfs_private.c, which this package follows: what coreboot 4.15 does not find is not found here
// either. All numbers are big-endian, but those of the headers of stages from before 4.15 (cbfs.h of those versions).
//
// It refuses to know where in a ROM a CBFS lies (but for the master header, which is CBFS's own) and what its files are for.
package cbfs
