#!/bin/sh
# Holds the images of the shipped guests against what mmdebstrap, dpkg and apt make of exactly the same packages: every
# path by type, mode, owner, link target, hard links, extended attributes and content. What differs must be explained
# in integration/testdata/truth.yaml, and what is explained there must differ.
#
#   integration/truth.sh [GUEST…]
#
# It needs mmdebstrap, and root or user namespaces for it; it builds images that are not in the store yet, which boots a
# guest for each. BELLJAR_BIN is the program (default bin/belljar), TRUTH_SPEC the spec (default seabios).
set -eu
cd "$(dirname "$0")/.."
belljar=${BELLJAR_BIN:-bin/belljar}
spec=${TRUTH_SPEC:-seabios}
dir=${BELLJAR_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/belljar}
export BELLJAR_DIR="$dir"
hooks=/usr/share/mmdebstrap/hooks/merged-usr
[ -d $hooks ] || { echo "truth: mmdebstrap is missing: apt-get install --no-install-recommends mmdebstrap" >&2; exit 4; }
mode=root
[ "$(id -u)" = 0 ] || mode=unshare

work=$(mktemp -d "${TMPDIR:-/tmp}/belljar-truth-XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
chmod 755 "$work" # apt reads the packages as a user of its own

[ $# -gt 0 ] || set -- debian-bookworm-x86_64 debian-bookworm-i686
worst=0
for guest in "$@"; do
	case $guest in *i686) arch=i386 ;; *) arch=amd64 ;; esac
	echo "truth: $guest: Belljar's image" >&2
	"$belljar" image build "$spec" --guest "$guest"
	repo=$work/$guest
	scripts/flat-repo "$dir" "$spec" "$guest" "$repo"
	echo "truth: $guest: mmdebstrap's, of $(wc -l <"$repo/names") packages" >&2
	begun=$(date +%s)
	mmdebstrap --quiet --mode=$mode --variant=custom --architectures=$arch --hook-dir=$hooks \
		--include="$(paste -sd, "$repo/names")" bookworm "$repo.tar" "deb [trusted=yes] copy://$repo ./" >"$work/log" 2>&1 ||
		{ tail -n 30 "$work/log" >&2; echo "truth: mmdebstrap failed, see above" >&2; exit 4; }
	echo "truth: $guest: mmdebstrap took $(($(date +%s) - begun)) s" >&2
	code=0
	"$belljar" image diff "$spec" "$repo.tar" --guest "$guest" --allow integration/testdata/truth.yaml || code=$?
	[ $code = 0 ] || worst=$code
	[ -z "${TRUTH_KEEP:-}" ] || mv "$repo.tar" "$TRUTH_KEEP/$guest.tar"
	rm -rf "$repo" "$repo.tar"
done
exit $worst
