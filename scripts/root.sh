# Sourced: root_fetch unpacks packages of any Debian release into a folder, with all that they depend on, but the
# kernel. Nothing is installed: no maintainer script runs, so it needs no root and takes seconds.
#
# The mirror is the one this machine's apt uses for its own Debian packages (LIBBACKUP_TEST_MIRROR overrides it;
# LIBBACKUP_TEST_MIRROR_bullseye and the like for one release, for the day it moves to the archive).

# apt_mirror SUITE: print the address to fetch the release from
apt_mirror () {
    local own=LIBBACKUP_TEST_MIRROR_$1
    local mirror=${!own:-${LIBBACKUP_TEST_MIRROR:-}}
    if [ -z "$mirror" ]; then
        mirror=$(apt-get indextargets --format '$(ORIGIN)|$(CODENAME)|$(REPO_URI)' 'Created-By: Packages' |
            awk -F'|' '$1 == "Debian" && $2 !~ /-/ { print $3; exit }')
    fi
    [ -n "$mirror" ] || { warn "apt on this machine has no Debian source: set LIBBACKUP_TEST_MIRROR"; return 1; }
    printf '%s\n' "$mirror"
}

# apt_for SUITE COMMAND…: run an apt tool as if on that release with nothing installed
apt_for () {
    local suite=$1 state=$cache/apt/$1; shift
    local tool=$1; shift
    LC_ALL=C "$tool" -q -o Dir::State="$state" -o Dir::State::status="$state/status" -o Dir::Cache="$state/cache" \
        -o Dir::Etc::sourcelist="$state/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
        -o APT::Architecture=amd64 -o APT::Architectures=amd64 -o APT::Install-Recommends=false \
        -o APT::Sandbox::User=root -o APT::Update::Post-Invoke-Success::=true -o Acquire::Retries=3 \
        -o Acquire::Languages=none -o Debug::NoLocking=true "$@"
}

# apt_prepare SUITE: the package lists of a release
apt_prepare () {
    local suite=$1 state=$cache/apt/$1 mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg options=
    [ ! -e "$state/ready" ] || return 0
    mirror=$(apt_mirror "$suite") || return
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    : > "$state/status"
    [ ! -e $keyring ] || options="[signed-by=$keyring] "
    printf 'deb %s%s %s main\n' "$options" "$mirror" "$suite" > "$state/sources.list"
    apt_for "$suite" apt-get update || return
    apt_for "$suite" apt-cache show libc6 >/dev/null || return   # apt-get update forgives too much
    : > "$state/ready"
}

# root_fetch SUITE DIR PACKAGE…: DIR appears only when it is complete
root_fetch () {
    local suite=$1 dir=$2 state=$cache/apt/$1 deb; shift 2
    [ ! -e "$dir" ] || return 0
    apt_prepare "$suite" || return
    apt_for "$suite" apt-get install -y --download-only "$@" || return
    rm -rf "$dir.new"
    mkdir -p "$dir.new"
    # base-files first: it has the links of a merged /usr, and the others go through them
    for deb in "$state"/cache/archives/base-files_*.deb "$state"/cache/archives/*.deb; do
        dpkg -x "$deb" "$dir.new" || return
    done
    rm -rf "$state/cache"
    mkdir -p "$state/cache/archives/partial"
    mv "$dir.new" "$dir"
}
