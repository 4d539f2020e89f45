// Package verify knows what a record is: what was built, from what, where, and how it booted, written so that
// another host can be held against it. It writes, reads, checks and compares records, and holds files against them.
//
// A record is an in-toto Statement v1 (https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md) whose
// predicate is SLSA provenance v1 (https://slsa.dev/spec/v1.0/provenance), with two extension fields of Belljar's own.
// What every rebuilder must arrive at (subjects, buildDefinition, belljar_build) stands apart from what differs from
// one run to the next (runDetails, belljar_run): Claim is the digest of the first half alone.
//
// It refuses to know how a build is done: no specs, no images, no virtual machines. The pipeline fills a Build, a
// plain value, and gets a Record. It does not sign either: a signature goes around the bytes that Marshal gives, as
// the payload of a DSSE envelope, and a signed record is a file of its own beside this one.
package verify
