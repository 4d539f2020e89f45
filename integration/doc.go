// Package integration holds the tests of the whole program: builds in real guests, ROMs that boot and ROMs that do not,
// faults, interruptions, bad input and bad hosts.
//
// It knows the command line, exit codes, what lies in Belljar's folder, and records; it calls the program as a user
// does. It refuses to know how any of it is done.
//
// The program is $BELLJAR_BIN, or built here. What it fetches and builds is kept in $BELLJAR_TEST_DIR (default
// .cache/test in the source folder) from one run of the tests to the next. -short skips what boots machines;
// BELLJAR_SLOW=1 adds what builds everything a second time.
package integration
