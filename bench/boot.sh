#!/bin/sh
# Times the boot of a guest under TCG, from Start to 'the agent answers', from a saved state and from power-on, in turns with (a) QEMU alone with the same
# kernel and initramfs until init's first line and (b) debvm-run until its SSH server's first word. Prints a table with
# where the time goes, then 'figure NAME VALUE UNIT' lines.
#
# debvm (scripts/setup truth installs it) needs a disk, which is made once from this machine's own apt sources and kept
# in .cache/bench. SKIP=debvm leaves it out.
#
#   bench/boot.sh [ROUNDS]      default 3; SPEC=seabios GUEST=debian-bookworm-x86_64; BELLJAR_DIR names the store
set -eu
cd "$(dirname "$0")/.."
rounds=${1:-3}
make -s build
say() { printf 'bench/boot.sh: %s\n' "$*" >&2; }
disk=''
if [ "${SKIP:-}" != debvm ]; then
	command -v debvm-run >/dev/null || { say 'install debvm first: scripts/setup truth'; exit 4; }
	disk=$PWD/.cache/bench/debvm-bookworm.ext4
	if [ ! -e "$disk" ]; then
		say "making debvm's disk, once (debvm-create, Debian bookworm, with an SSH server)"
		mkdir -p .cache/bench
		work=$(mktemp -d "${TMPDIR:-/var/tmp}/belljar-bench.XXXXXX")
		trap 'rm -rf "$work"' EXIT INT TERM
		ssh-keygen -q -t ed25519 -N '' -f "$work/key"
		# The machine's own sources, where they are in deb822's form; otherwise mmdebstrap's default.
		set -- /etc/apt/sources.list.d/debian.sources
		[ -e "$1" ] || set --
		debvm-create --release=bookworm --sshkey="$work/key.pub" --output="$work/disk" -- "$@" >"$work/log" 2>&1 ||
			{ tail -n 20 "$work/log" >&2; say 'debvm-create failed, see above'; exit 4; }
		mv "$work/disk" "$disk"
		rm -rf "$work"
	fi
fi
exec go run ./bench/boottime -rounds "$rounds" -spec "${SPEC:-seabios}" -guest "${GUEST:-debian-bookworm-x86_64}" \
	${disk:+-debvm "$disk"}
