# Runs Perl programs for the packages' scripts in forks of one interpreter that has their modules loaded already.
#
# Under emulation loading the modules of debconf's frontend takes a second, of deb-systemd-helper half of one, and the
# scripts of a small Debian call them some thirty times. What runs in the fork is the program as its package ships it,
# with the caller's own arguments, environment, folder, umask and open files.
#
# Usage: perl-server.pl FOLDER MODULE... The client (perl-client.sh) writes 'PID SLOT' to FOLDER/request and reads
# the exit code from FOLDER/reply.SLOT. ORIGINALS/PATH is the program that is not hidden by the client's bind mount.
use strict;
use warnings;
use POSIX ();

# Numbers of system calls, the same on every architecture since Linux 5.1 (asm-generic/unistd.h).
use constant { PIDFD_OPEN => 434, PIDFD_GETFD => 438 };
# Above what a script opens by number.
use constant OWN => 200;
use constant ORIGINALS => '/belljar/lower';

my ($dir, @modules) = @ARGV;
for my $m (@modules) {
	# A module that is not there is loaded by nobody; the program says so itself if it wants it.
	eval { require $m };
}
my @background = qw(INT QUIT); # a shell sets them to 'ignore' for what it starts with '&'

open(my $request, '+<', "$dir/request") or die "perl-server: $dir/request: $!";
while (my $line = <$request>) {
	1 while waitpid(-1, POSIX::WNOHANG()) > 0;
	last if $line eq "end\n";
	my ($pid, $slot) = $line =~ /^(\d+) (\d+)$/ or die "perl-server: bad request $line";
	next if fork_or_die();
	my $pidfd = syscall(PIDFD_OPEN, $pid + 0, 0);
	$pidfd >= 0 or die "perl-server: pidfd_open: $!";
	my $job = fork_or_die();
	if (!$job) {
		close $request;
		become($pid, POSIX::dup2($pidfd, OWN));
		run($pid);
	}
	waitpid($job, 0);
	my $code = $? & 127 ? 128 + ($? & 127) : $? >> 8;
	open(my $reply, '>', "$dir/reply.$slot") or die "perl-server: $dir/reply.$slot: $!";
	print $reply "$code\n";
	close $reply;
	# The slot is free when the client is gone: until then it may have read nothing yet.
	my $gone = '';
	vec($gone, $pidfd, 1) = 1;
	select($gone, undef, undef, undef);
	unlink "$dir/slot.$slot";
	POSIX::_exit(0);
}

sub fork_or_die {
	my $pid = fork;
	die "perl-server: fork: $!" unless defined $pid;
	return $pid;
}

# become takes over the client's open files, folder, umask and environment.
sub become {
	my ($pid, $pidfd) = @_;
	opendir(my $fds, "/proc/$pid/fd") or die "perl-server: /proc/$pid/fd: $!";
	my %open;
	for my $fd (grep { /^\d+$/ } readdir $fds) {
		my ($flags) = slurp("/proc/$pid/fdinfo/$fd") =~ /^flags:\s*([0-7]+)/m;
		next if oct($flags) & 02000000; # O_CLOEXEC: not for the program
		my $copy = syscall(PIDFD_GETFD, $pidfd, $fd + 0, 0);
		$copy >= 0 or die "perl-server: pidfd_getfd: $!";
		$open{$fd} = POSIX::dup2($copy, OWN + 1 + keys %open);
		POSIX::close($copy);
	}
	closedir $fds;
	my $environment = slurp("/proc/$pid/environ");
	my ($umask) = slurp("/proc/$pid/status") =~ /^Umask:\s*([0-7]+)/m;
	chdir "/proc/$pid/cwd" or die "perl-server: folder of $pid: $!";
	for my $fd (0 .. 2) {
		POSIX::close($fd) unless exists $open{$fd};
	}
	for my $fd (keys %open) {
		POSIX::dup2($open{$fd}, $fd + 0);
		POSIX::close($open{$fd});
	}
	POSIX::close($pidfd);
	umask oct $umask;
	%ENV = map { split /=/, $_, 2 } grep { /=/ } split /\0/, $environment;
	$SIG{$_} = 'DEFAULT' for @background;
}

# run runs the program that the client was called as, and does not return. The client's command line reads:
# the shell, the client's path, the arguments.
sub run {
	my ($pid) = @_;
	my (undef, $path, @args) = split /\0/, slurp("/proc/$pid/cmdline"), -1;
	pop @args; # after the last NUL
	my $file = ORIGINALS . $path;
	$file = ORIGINALS . readlink($file) while -l $file && readlink($file) =~ m{^/};
	open(my $source, '<', $file) or die "perl-server: $file: $!";
	my $first = <$source>;
	close $source;
	$^W = $first =~ /^#!\S*perl\S*\s+-\w*w/ ? 1 : 0;
	$0 = $path;
	@ARGV = @args;
	program($file);
	exit 0;
}

# program runs a file as perl runs its main program: what it dies of goes to its standard error.
sub program {
	do $_[0];
	if ($@) {
		print STDERR $@;
		exit 255;
	}
}

sub slurp {
	my ($name) = @_;
	open(my $f, '<', $name) or die "perl-server: $name: $!";
	local $/;
	return scalar <$f>;
}
