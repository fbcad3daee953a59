#!/bin/sh
. "${0%/*}/../kvm.conf"
logger "$HUGEPAGES $*"
