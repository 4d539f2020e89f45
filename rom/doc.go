// Package rom says what a ROM file is: whose firmware, of which version, with which payload, whether it is whole, and which
// profile and machine may boot it.
//
// It reads the file alone, and believes what the formats say before it believes a string: a flash map and a CBFS make a
// coreboot ROM, firmware volumes a UEFI one; SeaBIOS and U-Boot have no container and are known by what they print. It
// refuses to know how anything boots: what a profile expects of a boot stands elsewhere.
package rom
