#!/bin/busybox sh
# Process 1 of the initramfs: load the modules, find the disks by their serials, lay a writable layer over the
# read-only root, and hand over to /belljar/init in it. Every way out that is not the last line is FATAL.
export PATH=/bin
umask 022

say() { echo "belljar: init $*"; }
fatal() { echo "belljar: FATAL $*"; sync; poweroff -f; sleep 60; }
try() { "$@" || fatal "$* (exit code $?)"; }

try mount -t proc -o nosuid,nodev,noexec proc /proc
try mount -t sysfs -o nosuid,nodev,noexec sys /sys
try mount -t devtmpfs -o mode=755 dev /dev
read -r up _ </proc/uptime
say "kernel $(uname -r) after $up s"

while read -r ko; do try insmod "/modules/$ko"; done </modules/order

# disk SERIAL: prints the device's name, nothing if there is no such disk.
disk() {
	for d in /sys/block/vd*; do
		[ -e "$d/serial" ] && [ "$(cat "$d/serial")" = "$1" ] && { echo "${d##*/}"; return; }
	done
}

# The kernel finds disks one after another, and a slow one late: belljar.disks=root,inputs,… says which to wait for.
read -r cmdline </proc/cmdline
disks=root
for word in $cmdline; do
	case $word in belljar.disks=*) disks=${word#belljar.disks=} ;; esac
done
tries=300
for d in $(echo "$disks" | tr , ' '); do
	until [ -n "$(disk "$d")" ]; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || fatal "no disk with serial '$d'; there is: $(cat /sys/block/vd*/serial | tr '\n' ' ')"
		sleep 0.1
	done
done
root=$(disk root) inputs=$(disk inputs) scratch=$(disk scratch) outputs=$(disk outputs)
until [ -b "/dev/${root}1" ]; do
	tries=$((tries - 1))
	[ $tries -gt 0 ] || fatal "the disk with serial 'root' has no first partition; there is: $(echo /dev/vd*)"
	sleep 0.1
done

# Everything that Belljar adds to the guest lives on one tmpfs, /belljar: not in the root's upper layer, which is
# what configuring an image is about. The upper layer itself lies there too, where the agent can read it.
try mount -t tmpfs -o mode=755,size=75% belljar /belljar
mkdir -p /belljar/lower /belljar/overlay/upper /belljar/overlay/work
chmod 755 /belljar/overlay/upper
try mount -t erofs -o ro "/dev/${root}1" /belljar/lower
# No redirects and no metadata-only copies: what is in the upper layer must be readable without the lower one.
ov=lowerdir=/belljar/lower,upperdir=/belljar/overlay/upper,workdir=/belljar/overlay/work
try mount -t overlay -o "$ov,redirect_dir=off,metacopy=off,index=off,xino=off" root /root
[ -d /run-files ] && cp -a /run-files/. /belljar/
cp -a /bin /belljar/bin
cp -a /pid1 /belljar/init
try mount --move /belljar /root/belljar
try mount --move /proc /root/proc
try mount --move /sys /root/sys
try mount --move /dev /root/dev
cd /root || fatal "no root"

mkdir -p dev/pts dev/shm
try mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts dev/pts
try mount -t tmpfs -o mode=1777,nosuid,nodev shm dev/shm
try mount -t tmpfs -o mode=755,nosuid,nodev run run
try mount -t tmpfs -o mode=1777,nosuid,nodev,size=75% tmp tmp

if [ -n "$inputs" ]; then
	try mount -t erofs -o ro,nosuid,nodev "dev/$inputs" inputs
fi
if [ -n "$scratch" ]; then
	try mount -t ext4 -o noatime,nosuid,nodev,barrier=0 "dev/$scratch" build
else
	try mount -t tmpfs -o mode=755,nosuid,nodev,size=75% build build
fi
mkdir -p build/home
chown 1000:1000 build build/home
say "root $root, inputs ${inputs:-none}, scratch ${scratch:-tmpfs}, outputs ${outputs:-none}"

echo belljar >proc/sys/kernel/hostname
ip link set lo up
exec switch_root /root /belljar/bin/busybox sh /belljar/init
fatal "switch_root"
