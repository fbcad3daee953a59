#!/bin/bash
set -x
stop_if_running() {
    if systemctl is-active --quiet "$1.service"; then
        echo "$1" >> /run/stopped-display-manager
        systemctl stop "$1.service"
    fi
}
rm -f /run/stopped-display-manager
stop_if_running gdm
echo 0 > /run/vtcon0-bind
modprobe -r nvidia
virsh nodedev-detach pci_0000_01_00_0
