#!/bin/sh
# Measures what it costs that the agent runs a build and records its programs: the same script by hand over the serial
# console of a plain QEMU, by the agent without recording, and by the agent as it is, in turns. Prints a table, then
# 'figure NAME VALUE UNIT' lines. At most 3 % more than by hand is the bar. With -count it counts the guest's instructions in
# place of time: for a host whose processors are busy, or not its own. With -pairs a guest by hand and one by the agent run
# at the same time, each on one of two processors, and beside them two by hand, which shows what such a figure is worth.
#
#   bench/overhead.sh [-count|-pairs] [ROUNDS [EXECS]]      default 3 and 2000; BELLJAR_DIR names the store
set -eu
how=
case ${1:-} in
-*)
	how=$1
	shift
	;;
esac
cd "$(dirname "$0")/.."
make -s build
exec go run ./bench/overhead $how -rounds "${1:-3}" -execs "${2:-2000}"
