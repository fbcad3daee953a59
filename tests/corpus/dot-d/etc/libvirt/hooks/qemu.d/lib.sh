#!/bin/false
pages() { sysctl "vm.nr_hugepages=$1"; }
