#!/bin/sh
# Measures what it costs that the agent runs a build and records its programs: the same script by hand over the serial
# console of a plain QEMU, by the agent without recording, and by the agent as it is, in turns. Prints a table, then
# 'figure NAME VALUE UNIT' lines. At most 3 % more than by hand is the bar. With -count it counts the guest's instructions in
# place of time: for a host whose processors are busy, or not its own.
#
#   bench/overhead.sh [-count] [ROUNDS [EXECS]]      default 3 and 2000; BELLJAR_DIR names the store
set -eu
count=
if [ "${1:-}" = -count ]; then
	count=-count
	shift
fi
cd "$(dirname "$0")/.."
make -s build
exec go run ./bench/overhead $count -rounds "${1:-3}" -execs "${2:-2000}"
