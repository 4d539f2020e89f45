#!/bin/sh
# Times what a user waits for: a build of SeaBIOS from a filled store but without an image, one with the image, and
# one with nothing changed. Prints a table, then 'figure NAME VALUE UNIT' lines.
#
#   bench/build.sh [GUEST]        default debian-bookworm-x86_64; ACCEL=auto|kvm|tcg
set -eu
cd "$(dirname "$0")/.."
guest=${1:-debian-bookworm-x86_64}
accel=${ACCEL:-auto}
make -s build
dir=$(mktemp -d "${TMPDIR:-/var/tmp}/belljar-bench.XXXXXX")
trap 'rm -rf "$dir"' EXIT INT TERM
export BELLJAR_DIR="$dir/belljar"
belljar() { ./bin/belljar --quiet "$@" >"$dir/log" 2>&1 || { cat "$dir/log" >&2; exit 1; }; }
now() { date +%s.%N; }
timed() { # timed NAME COMMAND…
	name=$1; shift
	start=$(now); "$@"; end=$(now)
	secs=$(echo "$end $start" | awk '{ printf "%.2f", $1 - $2 }')
	printf '%-28s %8s s\n' "$name" "$secs"
	figures="$figures
figure $name $secs s"
}
figures=''
timed fetch belljar fetch seabios
timed build-without-image belljar build seabios --guest "$guest" --accel "$accel" --out "$dir/out"
timed build-with-image belljar build seabios --guest "$guest" --accel "$accel" --out "$dir/out" --no-cache
timed build-nothing-changed belljar build seabios --guest "$guest" --accel "$accel" --out "$dir/out"
printf '%s\n' "$figures" | sed 1d
