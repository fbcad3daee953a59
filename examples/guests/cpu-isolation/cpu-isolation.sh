#!/bin/sh
# Reserves processors for one guest: the host's own processes leave them while it runs.
#
# For pinned guests (<vcpu cpuset='2-7'>). HOST_CPUS are the processors that the host keeps meanwhile, and ALL_CPUS
# those that it has otherwise.

operation=$2

case "$operation" in
prepare) name=HOST_CPUS cpus=$HOST_CPUS ;;
release) name=ALL_CPUS cpus=$ALL_CPUS ;;
*) exit 0 ;;
esac

grep -q '<vcpu[^>]* cpuset=' || exit 0

if [ -z "$cpus" ]; then
    echo "$name is not set" >&2
    exit 1
fi

for unit in system.slice user.slice init.scope; do
    # After a veto, release undoes what was done before it.
    status=0
    why=$(systemctl set-property --runtime -- "$unit" "AllowedCPUs=$cpus" 2>&1) || status=$?
    if [ "$status" != 0 ]; then
        echo "systemctl exited with $status: $why" >&2
        exit 1
    fi
done
