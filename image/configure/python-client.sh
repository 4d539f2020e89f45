#!/bin/sh
# Stands in for python3.x (a bind mount over it). The byte-compiling of a whole library, which nobody waits for, is
# queued for python-worker.sh, which runs the same command beside dpkg; whatever else Python is wanted for waits
# until the queue is empty, so that it finds what it would have found.
d=/belljar/python
queue=
case "$*" in "-E -S "*/py_compile.py\ /*) queue=1 ;; esac
for word in ${queue:+"$@"}; do
	case $word in *[!A-Za-z0-9_./+-]*) queue= ;; esac
done
set -C # '>' makes a file or fails: that is the lock of a number
n=0
until true >$d/lock.$n; do
	n=$((n + 1))
done 2>/dev/null
if [ -n "$queue" ]; then
	echo "$0 $*" >$d/job.$n
	echo "${DPKG_MAINTSCRIPT_NAME-script} of ${DPKG_MAINTSCRIPT_PACKAGE-?}" >$d/blame.$n
	echo "job $n" >>$d/request
	exit 0
fi
/belljar/bin/busybox mkfifo $d/reply.$n
echo "sync $n" >>$d/request
(read -r _ <$d/reply.$n)
exec /belljar/configure/original "$0" "$@"
