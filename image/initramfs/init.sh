#!/bin/busybox sh
# Process 1 of the initramfs: load the modules, find the disks by their serials or the root by its partition's label,
# lay a writable layer over the read-only root, and hand over to /belljar/init in it. Every way out that is not the
# last line is FATAL.
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

load() { while read -r ko; do try insmod "/modules/$ko"; done <"$1"; }
load /modules/order
# What is not needed to find the root is loaded beside the work that follows. Drivers for hardware that may not be here
# are there only in what boots by itself.
late=''
if [ -e /modules/drivers ]; then
	load /modules/late
	while read -r ko; do insmod "/modules/$ko" || say "$ko does not load"; done </modules/drivers
else
	load /modules/late &
	late=$!
fi

# What the command line says: belljar.disks=root,inputs,… are the serials of the disks to wait for, the root's among
# them; or belljar.root=PARTLABEL=… names the root's partition, on whichever disk it is. belljar.verity=… is the root
# hash of the hash tree that lies in the partition with the root's label and '-verity'. With belljar.console a person
# gets a shell on the console, in place of sshd on a port.
disks=root label=root verity='' search='' mode=ssh
read -r cmdline </proc/cmdline
for word in $cmdline; do
	case $word in
	belljar.disks=*) disks=${word#belljar.disks=} ;;
	belljar.root=PARTLABEL=*) label=${word#belljar.root=PARTLABEL=} search=1 disks='' ;;
	belljar.verity=*) verity=${word#belljar.verity=} ;;
	belljar.console) mode=console ;;
	esac
done

# These print nothing if there is no such disk or partition. They start no program: that costs, under emulation.
disk() { # SERIAL
	for d in /sys/block/vd*/serial; do
		[ -e "$d" ] || continue
		serial=''
		read -r serial <"$d" # which says that it failed: the file has no line end
		[ "$serial" = "$1" ] && { d=${d%/serial}; echo "${d##*/}"; return; }
	done
}
partition() { # DISK LABEL
	for p in /sys/block/$1/$1*/uevent; do
		[ -e "$p" ] && while read -r line; do
			[ "$line" = "PARTNAME=$2" ] && { p=${p%/uevent}; echo "${p##*/}"; return; }
		done <"$p"
	done
}
anywhere() { # LABEL: the first disk that has such a partition
	for a in /sys/block/*; do
		a=${a##*/}
		[ -n "$(partition "$a" "$1")" ] && { echo "$a"; return; }
	done
}

# The kernel finds disks one after another, and a slow one late.
tries=300
wait_or() { # REASON
	tries=$((tries - 1))
	[ $tries -gt 0 ] || fatal "$*"
	sleep 0.1
}
IFS=,
for d in $disks; do
	until [ -n "$(disk "$d")" ]; do
		wait_or "no disk with serial '$d'; there is: $(for s in /sys/block/vd*/serial; do cat "$s" && echo; done |
			tr '\n' ' ')"
	done
done
unset IFS
if [ -n "$search" ]; then
	until root=$(anywhere "$label") && [ -n "$root" ]; do
		wait_or "no disk has a partition '$label'; there is: $(echo /sys/block/*)"
	done
	inputs='' scratch='' outputs=''
else
	root=$(disk root) inputs=$(disk inputs) scratch=$(disk scratch) outputs=$(disk outputs)
fi
until part=$(partition "$root" "$label") && [ -b "/dev/$part" ]; do
	wait_or "the disk $root has no partition '$label'; there is: $(echo /sys/block/"$root"/"$root"*)"
done

# With a root hash, every block of the root is checked against it when it is read: dm-verity.
if [ -n "$verity" ]; then
	hashes=$(partition "$root" "$label-verity")
	[ -n "$hashes" ] || fatal "image: the disk $root has no partition '$label-verity' for its hash tree"
	mapper root "/dev/$part" "/dev/$hashes" "$verity" || fatal "image: no dm-verity over $part"
	part=dm-0
fi

# Everything that Belljar adds to the guest lives on one tmpfs, /belljar: not in the root's upper layer, which is
# what configuring an image is about. The upper layer itself lies there too, where the agent can read it.
try mount -t tmpfs -o mode=755,size=75% belljar /belljar
mkdir -p /belljar/lower /belljar/overlay/upper /belljar/overlay/work
chmod 755 /belljar/overlay/upper
try mount -t erofs -o ro "/dev/$part" /belljar/lower
# No redirects and no metadata-only copies: what is in the upper layer must be readable without the lower one.
ov=lowerdir=/belljar/lower,upperdir=/belljar/overlay/upper,workdir=/belljar/overlay/work
try mount -t overlay -o "$ov,redirect_dir=off,metacopy=off,index=off,xino=off" root /root
[ -d /run-files ] && cp -a /run-files/. /belljar/
[ -e /agent ] && cp -a /agent /belljar/agent
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

say "root $root${verity:+ (dm-verity)}, inputs ${inputs:-none}, scratch ${scratch:-tmpfs}, outputs ${outputs:-none}"

echo belljar >proc/sys/kernel/hostname
ip link set lo up
[ -z "$late" ] || wait "$late"
exec switch_root /root /belljar/bin/busybox sh /belljar/init $mode "$inputs" "$scratch"
fatal "switch_root"
