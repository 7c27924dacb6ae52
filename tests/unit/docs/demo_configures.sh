#!/bin/sh
# What scripts/demo configures needs nothing but what it installs: no package that only tests or the libvirt driver want.
set -eu
top=$1 dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cat > "$dir/pkg-config" <<'SCRIPT'
#!/bin/sh
for word; do case $word in check|libvirt) exit 1 ;; esac; done
exec pkg-config "$@"
SCRIPT
chmod +x "$dir/pkg-config"
options=$(sed -n 's/.*meson setup "$build" "$top" //p' "$top/scripts/demo")
[ -n "$options" ]
PKG_CONFIG=$dir/pkg-config meson setup "$dir/build" "$top" $options > "$dir/log" 2>&1 || { tail -n 20 "$dir/log"; exit 1; }
# and the control: with tests, a missing check is an error
if PKG_CONFIG=$dir/pkg-config meson setup "$dir/control" "$top" $options -Dtests=enabled > "$dir/log" 2>&1; then exit 1; fi
grep -q '"check" not found' "$dir/log"
