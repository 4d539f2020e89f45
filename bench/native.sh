#!/bin/sh
# Runs a spec's stages on the host's own processors, each in a chroot of the guest's own image: what emulated builds are
# held against. Says of each stage how long it took, and of each artifact its SHA-256. It must be root.
#
#   bench/native.sh [-guest GUEST] [-keep FOLDER] SPEC        BELLJAR_DIR names the store
set -eu
cd "$(dirname "$0")/.."
make -s build
exec go run ./bench/native "$@"
