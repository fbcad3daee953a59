#!/bin/sh
# Asks two shell hooks and a sandboxed one about one event, the start of a guest. They allow web1 and veto web2.
# The hooks and documents are next to this script. It changes nothing on this machine.
cd "$(dirname "$0")/.." || exit

for guest in web1 web2; do
    echo "\$ hookvisor run --hooks examples/hooks qemu $guest start begin - < examples/$guest.xml"
    cargo run --quiet -- run --hooks examples/hooks qemu "$guest" start begin - < "examples/$guest.xml"
    echo "exit status $?"
done
