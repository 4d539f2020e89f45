# Configures the packages of the base layer, as 'dpkg --configure' does after 'dpkg --unpack'.
# Its input is the root that it runs in; its result is what it changes there. The files of image/configure lie in
# /belljar/configure: they make it fast, and are no part of the result.
set -eu
export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true LC_ALL=C.UTF-8 TZ=UTC HOME=/root
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PERL_DL_NONLAZY=1 # as dpkg sets it
umask 022
cd /

B=/belljar/bin/busybox
plan=/belljar/lower/var/lib/dpkg/belljar # made by the host: see plan.go
say() {
	read -r up _ </proc/uptime
	echo "configure: $* ($up s)"
}

# The users that process 1 lent to sshd. sshd runs already and has no more need of them; the packages add their own.
for file in /etc/passwd /etc/group; do
	while IFS= read -r line; do
		case "$line" in sshd:*|build:*) ;; *) printf '%s\n' "$line" ;; esac
	done <$file >$file.new
	mv $file.new $file
done

# The helpers first: they get ready on the second processor meanwhile.
hidden=
hide() { # CLIENT PROGRAM...: the client in the place of each program that is there
	client=$1
	shift
	for program; do
		if [ -f "$program" ] && [ -x "$program" ]; then
			$B mount --bind /belljar/configure/$client "$program"
			hidden="$hidden $program"
		fi
	done
}
mkdir -p /belljar/perl /belljar/python
$B mkfifo /belljar/python/request /belljar/python/started /belljar/perl/request /belljar/perl/reply.0 \
	/belljar/perl/reply.1 /belljar/perl/reply.2 /belljar/perl/reply.3 /belljar/perl/reply.4 /belljar/perl/reply.5 \
	/belljar/perl/reply.6 /belljar/perl/reply.7
$B unshare -m /bin/sh -eu /belljar/configure/python-worker.sh </dev/null &
: >/belljar/perl/ready
(
	perl /belljar/configure/perl-server.pl /belljar/perl $perl_modules </dev/null && exit
	echo "configure: perl-server ended with $?"
	rm /belljar/perl/ready
	for reply in /belljar/perl/reply.*; do echo 125 >$reply & done # nobody is to wait for it any more
) &

hide perl-client.sh /usr/share/debconf/frontend /usr/bin/deb-systemd-helper /usr/sbin/update-rc.d /usr/sbin/adduser
read -r _ </belljar/python/started # its view of the mounts is from before
hide python-client.sh /usr/bin/python3.[0-9] /usr/bin/python3.[0-9][0-9]

# dpkg runs a preinst in a folder that has the package's control members, with the names that they have there.
arch=$(dpkg --print-architecture)
ci=/var/lib/dpkg/tmp.ci
preinst() { # NAME
	$B mount --bind "$plan/tmp.ci/$1" $ci
	code=0
	DPKG_MAINTSCRIPT_PACKAGE=${1%%:*} DPKG_MAINTSCRIPT_ARCH=$arch DPKG_MAINTSCRIPT_NAME=preinst \
		DPKG_MAINTSCRIPT_DEBUG=0 DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT=1 DPKG_ROOT= DPKG_ADMINDIR=/var/lib/dpkg \
		$ci/preinst install </dev/null || code=$?
	$B umount $ci
	if [ $code != 0 ]; then
		echo "configure: preinst of ${1%%:*} failed with $code"
		exit 1
	fi
	[ ! -e "$plan/divert/$1" ] || divert "$1"
}

# A file that a package ships where another ships one takes its place when the other's has been diverted away.
divert() { # PACKAGE
	while IFS= read -r path; do
		if [ "$(dpkg-divert --listpackage "$path")" != "${1%%:*}" ]; then
			echo "configure: $path is in $(dpkg-query -S "$path" | sed 's/: .*//') too, and ${1%%:*} has not diverted it"
			exit 1
		fi
		cp -a "$plan/aside/$1$path" "$path"
	done <"$plan/divert/$1"
	cp "$plan/list/$1/"* /var/lib/dpkg/info/
}

mkdir -p $ci

# What byte-compiles Python's library comes first: it goes on beside all the rest.
read -r library <$plan/library
say "configure library: $library"
for name in $library; do
	[ ! -e "$plan/tmp.ci/$name/preinst" ] || preinst "$name"
done
[ -z "$library" ] || dpkg --force-depends --configure $library </dev/null

say "ldconfig"
ldconfig

# openssh-server's postinst makes host keys unless each has a file already (empty ones will do: it looks for names).
# The image must have none: a key in an image is no secret.
hostkeys="rsa ecdsa ed25519"
mkdir -p /etc/ssh
for k in $hostkeys; do
	[ -e /etc/ssh/ssh_host_${k}_key ] || : >/etc/ssh/ssh_host_${k}_key
done

say "preinst"
while read -r name; do
	preinst "$name"
done <$plan/preinst
rmdir $ci

# What the preinsts want of files that dpkg would have unpacked after them (dpkg-statoverride(1)).
[ -e /var/lib/dpkg/statoverride ] || : >/var/lib/dpkg/statoverride
while read -r user group mode path; do
	if [ -e "$path" ]; then
		chown "$user:$group" "$path"
		chmod "$mode" "$path"
	fi
done </var/lib/dpkg/statoverride
[ -s /var/lib/dpkg/statoverride ] || rm /var/lib/dpkg/statoverride

# Essential packages may use each other before they are configured, and dpkg cannot order them.
read -r first <$plan/first
say "configure $first"
[ -z "$first" ] || dpkg --force-depends --configure $first </dev/null

say "configure early"
read -r early <$plan/early
[ -z "$early" ] || dpkg --configure $early </dev/null

# Python's users are left. They find its library compiled.
say "byte-compile"
$B mkfifo /belljar/python/reply.end
echo "sync end" >>/belljar/python/request
read -r _ </belljar/python/reply.end
[ ! -e /belljar/python/failed ] || exit 1

say "configure all"
dpkg --configure -a </dev/null

for program in $hidden; do
	$B umount "$program"
done
echo end >>/belljar/perl/request
echo end >>/belljar/python/request
wait
[ ! -e /belljar/python/failed ] || exit 1

for k in $hostkeys; do
	rm -f /etc/ssh/ssh_host_${k}_key /etc/ssh/ssh_host_${k}_key.pub
done

# The user that runs the stages. Its home is on the scratch disk, made at every boot.
say "user build"
grep -q '^build:' /etc/group || echo 'build:x:1000:' >>/etc/group
grep -q '^build:' /etc/passwd || echo 'build:x:1000:1000::/build/home:/bin/sh' >>/etc/passwd
if [ -e /etc/shadow ]; then
	grep -q '^build:' /etc/shadow || echo 'build:!:::::::' >>/etc/shadow
	# The day of the last change is the day of this boot: none is as good, and the same every day.
	sed -i 's/^\([^:]*:[^:]*\):[^:]*:/\1::/' /etc/shadow
fi
if [ -e /etc/gshadow ]; then
	grep -q '^build:' /etc/gshadow || echo 'build:!::' >>/etc/gshadow
fi

say "check"
audit=$(dpkg --audit)
if [ -n "$audit" ]; then
	echo "dpkg --audit:"
	echo "$audit"
	exit 1
fi
bad=$(dpkg-query -W -f '${Status} ${Package}\n' | grep -v '^install ok installed ' || true)
if [ -n "$bad" ]; then
	echo "not installed:"
	echo "$bad"
	exit 1
fi
say "done, $(dpkg-query -W | wc -l) packages"
