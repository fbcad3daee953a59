#!/bin/sh
# Forwards ports of the host to a guest, as the guest's metadata asks:
#
#   <metadata>
#     <forward:ports xmlns:forward="https://example.org/libvirt/port-forward/1.0" address="192.168.122.10">
#       <forward:port protocol="tcp" host="8080" guest="80"/>
#     </forward:ports>
#   </metadata>
#
# Each guest has its own nftables table, which is removed when the guest stops.

operation=$2

case "$operation" in
started | reconnect | stopped) ;;
*) exit 0 ;;
esac

xml=$(cat)

# The value of an attribute on the lines with an element. sed does not parse XML.
attribute() {
    printf '%s\n' "$xml" | sed -n "/<$1 /s/.* $2=\"\([^\"]*\)\".*/\1/p"
}

die() {
    echo "$*" >&2
    exit 1
}

case $xml in
*https://example.org/libvirt/port-forward/1.0*) ;;
*) exit 0 ;;
esac

uuid=$(printf '%s\n' "$xml" | sed -n 's/.*<uuid>\(.*\)<\/uuid>.*/\1/p')
case $uuid in
'') die 'the domain XML has no <uuid>' ;;
*[!0-9a-fA-F-]*) die "$uuid is not a UUID" ;;
esac
table=guest-$uuid
# Deleting a missing table fails, so add it first.
rules="table ip $table
delete table ip $table
"

# Every value of a rule is checked, so metadata cannot add other rules.
port() {
    case $2 in
    '' | *[!0-9]*) die "\"$2\" is not a $1 port" ;;
    esac
    [ "$2" -le 65535 ] || die "\"$2\" is not a $1 port"
}

if [ "$operation" != stopped ]; then
    address=$(attribute forward:ports address)
    case $address in
    '' | *[!0-9.]*) die "\"$address\" is not an IPv4 address" ;;
    esac
    rules="${rules}table ip $table {
chain prerouting {
type nat hook prerouting priority dstnat; policy accept;
"
    set -f
    protocols=$(attribute forward:port protocol)
    hosts=$(attribute forward:port host | sed 's/ /?/g')
    guests=$(attribute forward:port guest | sed 's/ /?/g')
    # shellcheck disable=SC2086 # one word for each port
    set -- $hosts
    number=0
    for host; do
        number=$((number + 1))
        protocol=$(printf '%s\n' "$protocols" | sed -n "${number}p")
        guest=$(printf '%s\n' "$guests" | sed -n "${number}p")
        case $protocol in
        tcp | udp) ;;
        *) die "\"$protocol\" is not a protocol that can be forwarded: use tcp or udp" ;;
        esac
        port host "$host"
        port guest "$guest"
        rules="$rules$protocol dport $host dnat to $address:$guest
"
    done
    rules="$rules}
}
"
fi

status=0
why=$(printf '%s' "$rules" | nft -f - 2>&1) || status=$?
[ "$status" = 0 ] || die "nft exited with $status: $why"
