#!/bin/sh
# Times Belljar's image of a guest against mmdebstrap's of the same packages, in turns, with all downloads done before:
#
#   layer-first    the host's layer, every package unpacked into a disk with an EROFS; the first image of these packages
#   layer-shared   the same once more: what a second image or guest that shares the packages waits for
#   image          the whole image, configured inside the guest (boot included), from a store without an image
#   mmdebstrap     mmdebstrap to a tar archive, from a local flat repository with the same files
#
# Prints a table of the medians, with the ratios and the bars that they have to meet, then 'figure NAME VALUE UNIT'
# lines. mmdebstrap has to be installed; without root it runs in its mode unshare.
#
#   bench/image.sh [ROUNDS]      default 3; SPEC=seabios GUEST=debian-bookworm-x86_64 ACCEL=tcg; SKIP='image mmdebstrap'
#                                leaves parts out
set -eu
cd "$(dirname "$0")/.."
rounds=${1:-3}
spec=${SPEC:-seabios}
guest=${GUEST:-debian-bookworm-x86_64}
accel=${ACCEL:-tcg}
skip=" ${SKIP:-} "
command -v mmdebstrap >/dev/null || { echo 'bench/image.sh: install mmdebstrap first' >&2; exit 4; }
mode=unshare
[ "$(id -u)" != 0 ] || mode=root
make -s build
dir=$(mktemp -d "${TMPDIR:-/var/tmp}/belljar-bench.XXXXXX")
trap 'rm -rf "$dir"' EXIT INT TERM
chmod 755 "$dir" # mmdebstrap's own user reads the repository
export BELLJAR_DIR="$dir/belljar"
refs="$BELLJAR_DIR/store/refs"
now() { date +%s.%N; }

# run NAME COMMAND…: times it, notes its greatest memory (VmHWM of its process) beside the time, stops if it fails.
run() {
	name=$1; shift
	peak=0
	start=$(now)
	"$@" >"$dir/log" 2>&1 &
	pid=$!
	while kill -0 "$pid" 2>/dev/null; do
		hwm=$(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$pid/status" 2>/dev/null || true)
		[ -z "$hwm" ] || peak=$hwm
		sleep 0.1
	done
	wait "$pid" || { cat "$dir/log" >&2; echo "bench/image.sh: $name failed, see above" >&2; exit 1; }
	echo "$start $(now)" | awk -v m="$peak" '{ printf "%.2f %d\n", $2 - $1, m / 1024 }' >>"$dir/$name.times"
	printf '%-14s %s s\n' "$name" "$(tail -n 1 "$dir/$name.times" | cut -d' ' -f1)" >&2
}
want() { case "$skip" in *" $1 "*) return 1 ;; esac; }
# column NAME N: the median of a column; worst NAME N: its greatest value
column() {
	cut -d' ' -f"$2" "$dir/$1.times" | sort -n |
		awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}
worst() { cut -d' ' -f"$2" "$dir/$1.times" | sort -n | tail -n 1; }

./bin/belljar --quiet fetch "$spec" --guest "$guest" >&2
scripts/flat-repo "$BELLJAR_DIR" "$spec" "$guest" "$dir/repo"
chmod -R a+rX "$dir"
names=$(cut -d= -f1 "$dir/repo/names" | paste -sd,)
hook=/usr/share/mmdebstrap/hooks/merged-usr
round=0
while [ "$round" -lt "$rounds" ]; do
	round=$((round + 1))
	if want layer-first; then
		rm -rf "$refs/ready" # as after 'belljar fetch'
		run layer-first ./bin/belljar --quiet image layer "$spec" --guest "$guest"
	fi
	if want mmdebstrap; then
		run mmdebstrap mmdebstrap --mode="$mode" --variant=custom --hook-dir="$hook" --include="$names" \
			bookworm "$dir/mm.tar" "deb [trusted=yes] copy://$dir/repo ./"
		rm -f "$dir/mm.tar"
	fi
	if want layer-shared; then
		[ -d "$refs/ready" ] || ./bin/belljar --quiet image layer "$spec" --guest "$guest" >/dev/null
		run layer-shared ./bin/belljar --quiet image layer "$spec" --guest "$guest"
	fi
	if want image; then
		rm -rf "$refs/images" "$refs/ready"
		run image ./bin/belljar --quiet image build "$spec" --guest "$guest" --accel "$accel"
	fi
done

printf '\n%s, %s packages, medians of %s rounds, %s CPUs, guest under %s\n' \
	"$guest" "$(wc -l <"$dir/repo/names")" "$rounds" "$(nproc)" "$accel"
printf '%-14s %9s %8s %14s %7s\n' '' 'time' 'memory' 'of mmdebstrap' 'bar'
reference=''
[ ! -e "$dir/mmdebstrap.times" ] || reference=$(column mmdebstrap 1)
figures=''
for part in layer-first layer-shared image mmdebstrap; do
	[ -e "$dir/$part.times" ] || continue
	secs=$(column "$part" 1)
	mem="$(worst "$part" 2) MiB"
	[ "$part" != mmdebstrap ] || mem='' # many processes
	case $part in layer-*) bar=0.25 ;; image) bar=1.5 ;; *) bar='' ;; esac
	ratio=''
	[ -z "$reference" ] || ratio=$(echo "$secs $reference" | awk '{ printf "%.2f", $1 / $2 }')
	printf '%-14s %7.2f s %8s %14s %7s\n' "$part" "$secs" "$mem" "$ratio" "$bar"
	figures="$figures
figure $part $secs s"
	[ -z "$mem" ] || figures="$figures
figure $part-memory ${mem% MiB} MiB"
	[ -z "$bar" ] || [ -z "$ratio" ] || figures="$figures
figure $part-ratio $ratio x"
done
printf '%s\n' "$figures"
