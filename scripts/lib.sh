# Sourced by the scripts beside it: where things are, how to become root, how to speak.
# It defines functions and variables only, and changes nothing.

# Debian gives a user no sbin, where depmod and others are.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# The test cache: other QEMUs, the test guest. Safe to delete; everything in it is made again.
if [ -n "${LIBBACKUP_TEST_CACHE:-}" ]; then
    cache=$LIBBACKUP_TEST_CACHE
elif [ "$(id -u)" = 0 ]; then
    cache=/var/cache/libbackup-test
else
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/libbackup-test
fi
export LIBBACKUP_TEST_CACHE=$cache

say () { printf '%s\n' "$*"; }
warn () { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die () { warn "$*"; exit 1; }

# as_root COMMAND…: run it as root, by sudo if need be
as_root () {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else die "not root and no sudo: cannot run '$*'"
    fi
}

# quietly LOGFILE COMMAND…: the output goes to the log, and is shown only when the command fails
quietly () {
    local log=$1; shift
    mkdir -p "$(dirname "$log")"
    "$@" >"$log" 2>&1 </dev/null && return
    local rc=$?
    tail -n 40 "$log" >&2
    warn "failed ($rc): $*   (all of its output: $log)"
    return $rc
}
