package image

import _ "embed"

// ConfigureScript turns the base layer into a configured Debian. It is run by /bin/sh as root in a guest that booted
// from the base layer; what it changes is the difference that Merge takes.
//
//go:embed configure.sh
var ConfigureScript string
