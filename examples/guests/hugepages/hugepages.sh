#!/bin/sh
# Reserves huge pages for guests that ask for them, and frees them at the release.

guest=$1
operation=$2
count=${HUGEPAGES_POOL:-/sys/kernel/mm/hugepages/hugepages-2048kB}/nr_hugepages
# The guest's number of pages: release also comes after a failed start.
state=${HUGEPAGES_STATE:-/run/hugepages}/$guest

case "$operation" in
prepare)
    xml=$(cat)
    case $xml in
    *'<memoryBacking>'*'<hugepages'*'</memoryBacking>'*) ;;
    *) exit 0 ;;
    esac
    kib=$(printf '%s\n' "$xml" | sed -n "s/.*<memory unit='KiB'>\([0-9]*\)<.*/\1/p")
    if [ -z "$kib" ]; then
        echo 'the domain XML has no <memory>' >&2
        exit 1
    fi
    needed=$(((kib + 2047) / 2048))
    before=$(cat "$count") || exit 1
    echo $((before + needed)) >"$count" || exit 1
    # The kernel accepts any number, and reserves as many pages as it finds.
    found=$(($(cat "$count") - before))
    if [ "$found" -lt "$needed" ]; then
        echo "$before" >"$count"
        echo "guest $guest needs $needed huge pages, and the host has $found to spare" >&2
        exit 1
    fi
    echo "$needed" >"$state" || exit 1
    ;;
release)
    [ -e "$state" ] || exit 0
    left=$(($(cat "$count") - $(cat "$state"))) || exit 1
    [ "$left" -ge 0 ] || left=0
    echo "$left" >"$count" || exit 1
    rm "$state"
    ;;
esac
