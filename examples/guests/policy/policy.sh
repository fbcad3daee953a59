#!/bin/sh
# Every guest needs an owner, so that somebody can be called about it: no owner, no start.

guest=$1
operation=$2

case "$operation" in
prepare | start) ;;
*) exit 0 ;;
esac

# The guest's XML is on stdin. sed does not parse XML: a comment over several lines confuses it.
owner=$(
    sed -n '/<metadata>/,/<\/metadata>/ {
        s/<!--.*-->//g
        s/.*<inventory:owner>\(.*\)<\/inventory:owner>.*/\1/p
    }' | head -n 1
)

if [ -z "$owner" ]; then
    echo "guest $guest has no owner: add <inventory:owner>NAME</inventory:owner> to its <metadata> (virsh edit $guest)" >&2
    exit 1
fi
