# Process 1 of the guest (busybox sh, on the tmpfs /belljar): serves SSH on the virtio-serial port belljar.ssh, or,
# called with 'console', gives a person a shell; reaps what nobody waits for, and powers off when /belljar/poweroff
# appears, on SIGTERM, and on SIGUSR2, which is how busybox's poweroff asks for it.
export PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/belljar/bin LC_ALL=C.UTF-8 TZ=UTC
B=/belljar/bin/busybox
umask 022

say() { echo "belljar: $*"; }
off() { trap '' TERM; say "powering off"; $B sync; $B poweroff -f; $B sleep 60; }
fatal() { say "FATAL $*"; off; }
trap off TERM USR2

# In the first layer nothing is configured, and sshd refuses to work without its user. These lines go to the upper
# layer; configuring the image takes them out again before openssh-server's own postinst adds the user.
user() { $B grep -q "^$1:" /etc/passwd || echo "$1:*:$2:$3::$4:$5" >>/etc/passwd; }
user sshd 100 65534 /run/sshd /usr/sbin/nologin
user build 1000 1000 /build/home /bin/sh
$B grep -q '^build:' /etc/group || echo 'build:*:1000:' >>/etc/group
$B mkdir -p -m 755 /run/sshd /run/lock

# On an exported disk: nobody has put keys into it. A shell that ends is followed by the next.
if [ "$1" = console ]; then
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
$B chmod 600 /belljar/ssh_host_ed25519_key

port=
tries=100
while [ -z "$port" ]; do
	for p in /sys/class/virtio-ports/*; do
		[ -e "$p/name" ] && [ "$($B cat "$p/name")" = belljar.ssh ] && port=/dev/${p##*/}
	done
	tries=$((tries - 1))
	[ $tries -gt 0 ] || fatal "no virtio-serial port named belljar.ssh"
	[ -n "$port" ] || $B sleep 0.1
done

# The cheapest that OpenSSH offers: under emulation the default key exchange alone takes seconds. The line cannot
# be listened to (a pipe between two processes of one user); the keys prove that each side is who it should be.
sshd() {
	/usr/sbin/sshd -i -e -f /dev/null -h /belljar/ssh_host_ed25519_key \
		-o AuthorizedKeysFile=/belljar/authorized_keys -o PermitRootLogin=prohibit-password -o StrictModes=no \
		-o UsePAM=no -o UseDNS=no -o PrintMotd=no -o PrintLastLog=no -o PasswordAuthentication=no \
		-o KbdInteractiveAuthentication=no -o KexAlgorithms=curve25519-sha256 -o HostKeyAlgorithms=ssh-ed25519 \
		-o Ciphers=@CIPHERS@ -o Compression=no -o MaxSessions=100 -o LoginGraceTime=60 -o LogLevel=ERROR \
		-o ClientAliveInterval=0 -o TCPKeepAlive=no -o Subsystem='sftp internal-sftp' \
		<>"$port" >&0 2>/dev/console
}

read -r up _ </proc/uptime
say "sshd on ${port##*/} after $up s"
while :; do
	sshd &
	pid=$!
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
done
