// Package specs knows the two languages of Belljar: the spec, which a person writes in YAML, and the lock, which
// `belljar lock` writes in JSON. It also holds the specs that are shipped with the program.
//
// Both are read strictly: what is unknown, missing, doubled or of the wrong type is an input fault that points at file,
// line and column. What has passed here can be relied upon; nobody above checks it again.
//
// It refuses to know what a spec's words lead to: it resolves no package, fetches nothing and starts nothing.
package specs

//go:generate go run ./internal/gen
