# Install the packages of a folder in a clean chroot, use them, remove them without a trace: bash scripts/package-prove.sh OUT
# Run by scripts/package as root.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

out=$1
base=$cache/chroot/bookworm.tar
archives=$cache/chroot/archives
root=$(mktemp -d)
mounts=
mkdir -p "$archives/partial"

leave () {
    for place in $mounts; do umount -R "$root$place" 2> /dev/null || umount -R -l "$root$place"; done
    rm -rf --one-file-system "$root"
}
trap leave EXIT
# SYSTEMD_OFFLINE: systemctl looks at files and starts nothing, also where it cannot see that this is a chroot
within () { chroot "$root" env -i SYSTEMD_OFFLINE=1 PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }
skip () { say "skip packages in a clean chroot: $*"; exit 0; }
step () { quietly "$top/build-package/prove.log" "$@"; }

mkdir "$root/try"
if ! mount --bind "$root/try" "$root/try" 2> /dev/null; then
    skip "root may not mount here"
fi
umount "$root/try"
rmdir "$root/try"

# a bare Debian 12, kept for the next time
if [ ! -e "$base" ]; then
    mirror=$(apt-cache policy 2>/dev/null | sed -n 's,.* \(https\?://[^ ]*debian/\?\) bookworm/main.*,\1,p' | head -n 1)
    step debootstrap --variant=minbase bookworm "$root" ${mirror:+"$mirror"} || skip "a bare Debian 12 cannot be had here"
    rm -f "$root"/var/cache/apt/archives/*.deb
    tar -cf "$base.new" -C "$root" .
    mv "$base.new" "$base"
else
    tar -xf "$base" -C "$root"
fi
# the way to the packages is this host's
cp -rL /etc/apt/sources.list* /etc/apt/apt.conf.d "$root/etc/apt/" 2>/dev/null || :
cp -rL /etc/ssl/certs "$root/etc/ssl/" 2>/dev/null || :
[ ! -d /usr/share/keyrings ] || cp -rL /usr/share/keyrings "$root/usr/share/"
cp /etc/resolv.conf /etc/hosts "$root/etc/"
# nothing starts; what would be done with our units is written down, and let through to a systemctl that does nothing in a chroot
cat > "$root/usr/sbin/policy-rc.d" <<'END'
#!/bin/sh
case $1 in
    libbackup*) echo "$2 $1" >> /tmp/asked ;;
    *) exit 101 ;;
esac
END
chmod 755 "$root/usr/sbin/policy-rc.d"
for place in /proc /dev; do mount --rbind "$place" "$root$place" && mount --make-rslave "$root$place" && mounts="$place $mounts"; done
mount --bind "$archives" "$root/var/cache/apt/archives" && mounts="/var/cache/apt/archives $mounts"
mkdir "$root/out" "$root/tests"
cp "$out"/*.deb "$root/out/"
cp "$top"/debian/tests/* "$root/tests/"

ours=$(for file in "$out"/*.deb; do dpkg-deb -f "$file" Package; done)
# every file with its kind, every user and group
files () {
    within sh -c 'find / -xdev \( -path /proc -o -path /dev -o -path /sys -o -path /tmp -o -path /run -o -path /out -o -path /tests -o -path /var/cache \
        -o -path /var/log -o -path /var/lib/apt -o -path /var/lib/dpkg -o -path /var/lib/rpm \) -prune -o -printf "%y %p\n"
        getent passwd; getent group' | grep -v __pycache__ | LC_ALL=C sort
}
install () { within sh -c 'apt-get -q install -y --no-install-recommends /out/*.deb systemd procps golang-go gcc libc6-dev libnbd-dev pkg-config'; }
purge () { within apt-get -q purge -y $ours; }
again () { within sh -c 'dpkg -i /out/libbackupd_*.deb /out/baksh_*.deb'; }
units='libbackupd-ro.socket libbackupd.service libbackupd.socket'
# asked WHEN ACTION-UNIT…: the maintainer scripts asked systemd for this and nothing else
asked () {
    local when=$1 want got; shift
    want=$(printf '%s\n' "$@" | LC_ALL=C sort)
    got=$(LC_ALL=C sort -u "$root/tmp/asked" 2> /dev/null || :)
    [ "$got" = "$want" ] || die "$when: systemd was asked for: ${got:-nothing}"
    rm -f "$root/tmp/asked"
}
# each STATE: what systemctl says of our units
each () {
    local unit state
    for unit in $units; do
        state=$(within systemctl is-enabled "$unit" 2> /dev/null || :)
        [ "$state" = "$1" ] || die "$unit is ${state:-unknown} where it should be $1"
    done
}

step within apt-get -q update || skip "the packages of Debian 12 cannot be had here"
step install
step purge
files > "$top/build-package/before"
# maintainer scripts take this for a running systemd
mkdir -p "$root/run/systemd/system"
rm -f "$root/tmp/asked"
step install
say "ok   installed in a clean chroot"
each enabled
asked "installing" 'start libbackupd-ro.socket' 'start libbackupd.service' 'start libbackupd.socket'
step again
each enabled
asked "an upgrade" 'start libbackupd-ro.socket' 'restart libbackupd.service' 'start libbackupd.socket'
step within systemctl disable $units
step again
each disabled
rm -f "$root/tmp/asked"
say "ok   units: enabled and started, restarted by an upgrade, left disabled where they were"

step within sh -c 'baksh --version && baksh -c test:///default list --all | grep -q test'
say "ok   baksh -c test:///default"
step within python3 -c 'import libbackup; print(libbackup.Connection("test:///default").lookup_by_name("test").list_disks())'
say "ok   python3 -c 'import libbackup'"
for test in backup compile; do
    step within "/tests/$test"
    say "ok   autopkgtest $test"
done
# what names programs and files that no chroot has is not asked: units, their users, their programs
verdict=$(within systemd-analyze verify --man=no /usr/lib/systemd/system/libbackupd.service /usr/lib/systemd/system/libbackupd.socket \
    /usr/lib/systemd/system/libbackupd-ro.socket 2>&1 | grep libbackup || :)
[ -z "$verdict" ] || die "systemd-analyze verify: $verdict"
say "ok   systemd-analyze verify"
within getent group libbackup > /dev/null || die "the group libbackup was not made"
say "ok   sysusers"
# the commands under "After the install" but what needs a running systemd (--now)
readme=$(sed -n '/^## After the install/,/^## [^A]/p' "$top/README.md" | grep -o '`[^`]*`' | tr -d '`' |
    grep -E '^(libbackupd --config-check|systemctl enable|baksh discover|baksh -c test)')
[ "$(printf '%s\n' "$readme" | wc -l)" = 4 ] || die "README: the commands after the install are not those that are known here: $readme"
while read -r command; do step within sh -c "${command/ --now/}" < /dev/null; done <<< "$readme"
say "ok   README: after the install"

# same KIND [BUT]: nothing is there now that was not there before, or the reverse, and nothing is ours; BUT: what does not count
same () {
    local kind=$1 but=${2:-'^$'} left
    files > "$top/build-package/after"
    left=$(LC_ALL=C comm -3 "$top/build-package/before" "$top/build-package/after" | grep -vE "$but" || :
        grep -E 'libbackup|baksh' "$top/build-package/after" | grep -vE "$but" || :)
    [ -z "$left" ] || die "$kind: left behind: $left"
    say "ok   $kind: removed without a trace"
}

# with units enabled
step within systemctl enable libbackupd.service
each enabled
step within systemctl enable libbackup-run@nightly.timer
step purge
asked "removing" 'stop libbackupd-ro.socket' 'stop libbackupd.service' 'stop libbackupd.socket' \
    'stop libbackup-run@*.service' 'stop libbackup-run@*.timer'
rm -r "$root/run/systemd"
say "ok   units: stopped by the removal"
same deb

# RPM packages, with what they need from Debian: files and programs are shown, requirements by name are not
rpms=$(find "$out" -name '*.rpm' ! -name '*.src.rpm')
names=$(rpm -qp --qf '%{NAME}\n' $rpms 2> /dev/null)
rpm="rpm --root $root --dbpath /var/lib/rpm"
# what its scriptlets ask systemctl for is written down, and answered by the one that does nothing in a chroot
export SYSTEMD_OFFLINE=1
mv "$root/usr/bin/systemctl" "$root/usr/bin/systemctl.asked"
cat > "$root/usr/bin/systemctl" <<'END'
#!/bin/sh
echo "$*" >> /tmp/asked
exec /usr/bin/systemctl.asked "$@"
END
chmod 755 "$root/usr/bin/systemctl"
rm -f "$root/tmp/asked"
all='libbackupd.service libbackupd.socket libbackupd-ro.socket'
step $rpm -i --nodeps $rpms
asked "rpm: installing" "--no-reload preset $all"
within getent group libbackup > /dev/null || die "rpm: the group libbackup was not made"
step $rpm -U --nodeps --replacepkgs $rpms
asked "rpm: an upgrade" 'daemon-reload' 'try-restart libbackupd.service'
say "ok   rpm: scriptlets make the group, ask for the presets, and restart the daemon on an upgrade"
verdict=$($rpm -V --nodeps --nouser --nogroup $names 2> /dev/null || :)
[ -z "$verdict" ] || die "rpm -V: $verdict"
say "ok   rpm: installed, and as the packages say"
step within env LD_LIBRARY_PATH=/usr/lib64 sh -c 'baksh -c test:///default list --all | grep -q test'
step within env LD_LIBRARY_PATH=/usr/lib64 python3 -c 'import libbackup; print(libbackup.Connection("test:///default").lookup_by_name("test").list_disks())'
step within env LD_LIBRARY_PATH=/usr/lib64 libbackupd --config-check
say "ok   rpm: baksh, libbackupd, python3 -c 'import libbackup'"
step $rpm -e --nodeps $names
asked "rpm: removing" "--no-reload disable --now $all" 'daemon-reload' 'stop libbackup-run@*.timer libbackup-run@*.service'
mv "$root/usr/bin/systemctl.asked" "$root/usr/bin/systemctl"
# the folders that hold them belong to packages that only an RPM distribution has, and there a group is never taken away
same rpm '^[[:space:]]*(d |libbackup:x:)'
