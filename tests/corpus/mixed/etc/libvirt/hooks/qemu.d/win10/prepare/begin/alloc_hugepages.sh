#!/bin/bash
source "/etc/libvirt/hooks/kvm.conf"
sysctl vm.nr_hugepages=$HUGEPAGES
