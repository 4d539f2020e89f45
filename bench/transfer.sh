#!/bin/sh
# Times bytes into and out of a guest under TCG: by SSH, and by its disks; docs/stream.md has the figures.
#
#	bench/transfer.sh [-mib N] [-ssh-mib N] [-guest NAME]
set -eu
cd "$(dirname "$0")/.."
exec go run ./bench/transfer "$@"
