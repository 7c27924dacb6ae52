#!/bin/bash
# The same night by hand, to compare with nightly.conf: what a script has to do that calls the commands one by one.
set -u
export LIBBACKUP_REPOSITORY=${LIBBACKUP_REPOSITORY:-/backup/repository}
exec 9> "${XDG_RUNTIME_DIR:-/run}/night.lock"
flock -n 9 || { echo 'it runs already' >&2; exit 1; }
report=$(mktemp)
trap 'rm -f "$report"' EXIT
good=0 bad=0
back_up () {
    timeout 6h baksh -q point-create "$1" --quiesce auto --limit 200M >> "$report" 2>&1
}
again=()
while read -r guest; do
    case $guest in ''|test-*|*-clone) continue ;; esac
    echo "== $guest" >> "$report"
    if back_up "$guest"; then
        good=$((good + 1))
        baksh -q point-prune "$guest" --keep-last 3 --keep-daily 7 --keep-weekly 4 --keep-monthly 6 >> "$report" 2>&1
    else
        again+=("$guest")
    fi
done < <(baksh -q list --all --name)
for guest in "${again[@]}"; do
    echo "== $guest, again" >> "$report"
    if back_up "$guest"; then
        good=$((good + 1))
        baksh -q point-prune "$guest" --keep-last 3 --keep-daily 7 --keep-weekly 4 --keep-monthly 6 >> "$report" 2>&1
    else
        bad=$((bad + 1))
    fi
done
cat "$report"
[ $bad = 0 ] || exit $((good ? 6 : 3))
