// Package image knows how the guest's disks are made from packages and tarballs: the base layer (packages unpacked,
// none configured), the final root (base and what configuring it changed), the input disk, the scratch disk, and the
// bundle of a kernel and its modules. All of it is written by the host without root, loop devices or mounts, and the
// same input gives the same bytes. It also looks into images, its own and those of other tools: what they are made of,
// which files they hold, and what two of them do not have in common.
//
// It refuses to know where packages come from, what runs in the guest, and how a guest is started. Package formats
// are image/debian's business, the initramfs is image/initramfs's.
package image

// Version is the version of the recipe: it goes into every cache key, and grows whenever the same input would give
// other bytes than before.
const Version = "2"
