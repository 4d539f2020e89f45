package smoke

// What damaged firmware prints. Each list is for Test.Forbid; each pattern was seen on a ROM damaged on purpose, or
// stands in the firmware's source for a state from which nothing good follows. They are RE2 and match within a line.

// SeaBIOSFailures are SeaBIOS' last words. A missing disk is none by itself, but a test that attaches one means it.
var SeaBIOSFailures = []string{
	`WARNING - internal error detected`,     // output.c, __warn_internalerror: loops for ever on a ROM cut in half
	`call16(_override)? with invalid stack`, // stacks.c: its entry code went another way
	`No bootable device`,
	`Boot failed: `,
}

// CorebootFailures are coreboot's: a stage or payload that is missing, damaged or does not unpack.
var CorebootFailures = []string{
	// Other files are optional: a good boot misses fallback/slic.
	`CBFS: '[^']*/(verstage|romstage|postcar|ramstage|payload)' not found`,
	`Couldn't load (bootblock|verstage|romstage|postcar|ramstage)`,
	`Failed to load after CAR program`,
	`Ramstage was not loaded!`,
	`Payload not loaded`,
	`lzma: Decoding error`,
	`(?i)^(\[EMERG \] *)?ASSERTION ERROR`,
	`Unexpected Exception`, // arch/x86/exception.c, with a register dump behind it
}

// LinuxFailures are the kernel's, for ROMs with a Linux payload.
var LinuxFailures = []string{
	`Kernel panic - not syncing`,
	`^(\[ *[0-9.]+\] )?(BUG|Oops): `,
	`Unable to mount root fs`,
	`No working init found`,
	`Initramfs unpacking failed`,
	`(LZMA|XZ|XZ-compressed) data is corrupt`,
	`-- System halted`, // the decompressor's end, arch/x86/boot/compressed/error.c
}

// UBootFailures are U-Boot's. The first stands behind every register dump.
var UBootFailures = []string{
	`### ERROR ### Please RESET the board ###`,
	`resetting \.\.\.`,
}
