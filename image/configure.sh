# Configures the packages of the base layer, as 'dpkg --configure' does after 'dpkg --unpack'.
# Its input is the root that it runs in; its result is what it changes there.
set -eu
export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true LC_ALL=C.UTF-8 TZ=UTC HOME=/root
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
umask 022
cd /

say() { echo "configure: $*"; }

# The users that process 1 lent to sshd. sshd runs already and has no more need of them; the packages add their own.
for file in /etc/passwd /etc/group; do
	while IFS= read -r line; do
		case "$line" in sshd:*|build:*) ;; *) printf '%s\n' "$line" ;; esac
	done <$file >$file.new
	mv $file.new $file
done

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
for script in /var/lib/dpkg/info/*.preinst; do
	[ -e "$script" ] || continue
	name=${script##*/}
	name=${name%.preinst}
	DPKG_MAINTSCRIPT_PACKAGE=${name%%:*} DPKG_MAINTSCRIPT_ARCH=$(dpkg --print-architecture) \
		DPKG_MAINTSCRIPT_NAME=preinst DPKG_MAINTSCRIPT_DEBUG=0 DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT=1 DPKG_ROOT= DPKG_ADMINDIR=/var/lib/dpkg \
		"$script" install </dev/null
done

# Essential packages may use each other before they are configured, and dpkg cannot order them: these first.
first=
for p in base-passwd base-files libc6 libc-bin perl-base mawk debconf; do
	if dpkg-query -W -f '${Status}\n' "$p" 2>/dev/null | grep -q unpacked; then first="$first $p"; fi
done
say "configure$first"
dpkg --force-depends --configure $first </dev/null

say "configure all"
dpkg --configure -a </dev/null

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
