// Package measure predicts, from a ROM alone, what coreboot's measured boot must extend into the PCRs of a TPM, and names the
// first event in which a boot differs from that.
//
// What is measured, in which order, by which names, stands in coreboot, src/security/tpm/tspi/crtm.c and src/lib/cbfs.c
// (as the sources of 4.15 to 4.20, of 4.22 and of 26.06 have it; boots of 4.15 agree): the first file that the bootblock looks up in CBFS starts the root of trust, which measures
// the area FMAP and the bootblock; each file that is looked up is measured as it is stored, before it is decompressed.
//
// It boots nothing and speaks to no TPM: what was seen of a boot is handed to it.
package measure
