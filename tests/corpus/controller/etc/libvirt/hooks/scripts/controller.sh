#!/bin/bash
# Looks up what to run in a table of hook, operation, object and command.
hook=$(basename "$0")
root=$(cd "$(dirname "$0")" && pwd)
export PATH="$root/scripts:$PATH"
logger "$hook $*"
status=0
while IFS=, read -r name operation object command; do
    [[ $name == "#"* || ( $name != "$hook" && $name != "*" ) ]] && continue
    [[ $operation != "$2" && $operation != "*" ]] && continue
    [[ $object != "$1" && $object != "*" ]] && continue
    $command "$1" "$2" || status=$?
done < "$root/conf/rules.conf"
exit $status
