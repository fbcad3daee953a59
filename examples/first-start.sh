#!/bin/sh
# One event, the start of a guest, put to two shell hooks and a sandboxed one: they let web1 start, and not web2.
# Hooks and documents are beside this script; it changes nothing on this machine.
cd "$(dirname "$0")/.." || exit

for guest in web1 web2; do
    echo "\$ hookvisor run --hooks examples/hooks qemu $guest start begin - < examples/$guest.xml"
    cargo run --quiet -- run --hooks examples/hooks qemu "$guest" start begin - < "examples/$guest.xml"
    echo "exit status $?"
done
