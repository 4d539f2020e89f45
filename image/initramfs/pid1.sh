# Process 1 of the guest (busybox sh, on the tmpfs /belljar), called with MODE INPUTS SCRATCH, the last two disks or
# empty: serves SSH on the virtio-serial port belljar.ssh, or, in mode 'console', gives a person a shell; reaps what
# nobody waits for, and powers off when /belljar/poweroff appears, on SIGTERM, and on SIGUSR2, which is how busybox's
# poweroff asks for it.
export PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/belljar/bin LC_ALL=C.UTF-8 TZ=UTC
B=/belljar/bin/busybox
umask 022

say() { echo "belljar: $*"; }
off() { trap '' TERM; say "powering off"; $B sync; $B poweroff -f; $B sleep 60; }
fatal() { say "FATAL $*"; off; }
trap off TERM USR2

# From descriptor 9 comes why init could not load what the scratch disk needs, or nothing; it ends when that is loaded.
loaded() {
	read -r why <&9
	[ -z "$why" ] || fatal "$why"
}

# A disk of large files is read by megabytes: each request costs an emulated processor the most. Not so the root, of which
# dm-verity checks all that is read.
readahead() { # DISK
	echo 1024 >"/sys/block/$1/queue/read_ahead_kb"
}

# The disks of this run alone. The agent waits for /belljar/ready before it says that it is there.
disks() { # INPUTS SCRATCH
	if [ -n "$1" ]; then
		$B mount -t erofs -o ro,nosuid,nodev "/dev/$1" /inputs || fatal "mount of the inputs on $1"
		readahead "$1"
	fi
	if [ -n "$2" ]; then
		loaded
		$B mount -t ext4 -o noatime,nosuid,nodev,barrier=0 "/dev/$2" /build || fatal "mount of the scratch disk $2"
		readahead "$2"
	else
		$B mount -t tmpfs -o mode=755,nosuid,nodev,size=75% build /build || fatal "mount of /build"
	fi
	$B mkdir -p /build/home
	$B chown 1000:1000 /build /build/home || fatal "owner of /build"
	: >/belljar/ready
}

# On an exported disk: nobody has put keys into it. A shell that ends is followed by the next.
if [ "$1" = console ]; then
	disks "$2" "$3"
	exec 9<&-
	$B --install -s /belljar/bin # mount, poweroff and whatever else this userland may lack
	export HOME=/root USER=root LOGNAME=root TERM="${TERM:-vt102}"
	cd /root || cd /
	for sh in /bin/bash /bin/sh /belljar/bin/sh; do
		[ -x $sh ] && break
	done
	shell() { # TTY
		while :; do
			$B setsid -c $sh <"$1" >"$1" 2>&1
			$B sleep 1
		done
	}
	# One on each console that the command line names: the serial port's and the screen's, say.
	read -r consoles </sys/class/tty/console/active
	read -r up _ </proc/uptime
	for tty in $consoles; do
		[ "$tty" = tty0 ] && tty=tty1
		say "a shell after $up s; what it changes is lost at 'poweroff'" >"/dev/$tty"
		shell "/dev/$tty" &
	done
	while :; do wait; done
fi

[ -e /belljar/ssh_host_ed25519_key ] || fatal "no host key: the initramfs has no run files"
port='' wake=''
tries=100
while [ -z "$port" ]; do
	for p in /sys/class/virtio-ports/*; do
		name=''
		[ -e "$p/name" ] && read -r name <"$p/name"
		case $name in
		belljar.ssh) port=/dev/${p##*/} ;;
		belljar.wake) wake=/dev/${p##*/} ;;
		esac
	done
	tries=$((tries - 1))
	[ $tries -gt 0 ] || fatal "no virtio-serial port named belljar.ssh"
	[ -n "$port" ] || $B sleep 0.1
done

# The cheapest that OpenSSH offers: under emulation the default key exchange alone takes seconds. The line cannot
# be listened to (a pipe between two processes of one user); the keys prove that each side is who it should be. There is
# no limit on the time for it: on a busy host a guest's clock was seen to run seventy times too fast.
sshd() {
	/usr/sbin/sshd -i -e -f /dev/null -h /belljar/ssh_host_ed25519_key \
		-o AuthorizedKeysFile=/belljar/authorized_keys -o PermitRootLogin=prohibit-password -o StrictModes=no \
		-o UsePAM=no -o UseDNS=no -o PrintMotd=no -o PrintLastLog=no -o PasswordAuthentication=no \
		-o KbdInteractiveAuthentication=no -o KexAlgorithms=curve25519-sha256 -o HostKeyAlgorithms=ssh-ed25519 \
		-o Ciphers=@CIPHERS@ -o Compression=no -o MaxSessions=100 -o LoginGraceTime=0 -o LogLevel=ERROR \
		-o ClientAliveInterval=0 -o TCPKeepAlive=no -o Subsystem='sftp internal-sftp' \
		<>"$port" >&0 2>/dev/console 9<&-
}

# The agent hashes itself and waits for the disks beside the handshake; then sshd connects the host to it. It serves one.
agent() {
	/belljar/agent serve /belljar/agent.sock </dev/null >/dev/console 2>&1 9<&- || say "the agent ended with $?"
}

# A guest whose state is to be saved. One session, with the keys of this run, brings into memory what every session
# needs, and dm-verity checks it on the way. Then the keys go, no process is left but this one and the agent, which
# sleeps until a host says whose guest this is to be; the disks have not been opened.
if [ -e /belljar/park ]; then
	: >/belljar/ready
	agent &
	sshd
	wait
	loaded
	$B rm -f /belljar/park /belljar/ready /belljar/ssh_host_ed25519_key /belljar/authorized_keys
	$B sync
	say "parked"
	/belljar/agent wake "$wake" || fatal "the agent could not be woken"
fi

read -r up _ </proc/uptime
say "sshd on ${port##*/} after $up s"
sshd &
pid=$!
# Beside sshd's start: none waits for another.
agent &
disks "$2" "$3" &
exec 9<&-
while :; do
	while $B kill -0 $pid 2>/dev/null; do
		[ -e /belljar/poweroff ] && off
		$B sleep 1 &
		wait $!
	done
	wait $pid
	code=$?
	[ -e /belljar/poweroff ] && off
	say "sshd ended with $code"
	$B sleep 1
	sshd &
	pid=$!
done
