#!/bin/sh
# rpcgen.sh RPCGEN -h|-c INPUT OUTPUT: rpcgen writes the path it was given into its output, so it runs in a
# directory of its own where input and header have plain names; the include guard comes from the output's name.
set -e
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
name=$(basename "$3" .x)
cp "$3" "$work/$name.x"
(cd "$work" && "$1" -C "$2" -o "$name.out" "$name.x")
cp "$work/$name.out" "$4"
