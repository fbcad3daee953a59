#!/bin/bash
source "/etc/libvirt/hooks/kvm.conf"
modprobe vfio-pci
# The second detach of a device fails.
virsh nodedev-detach $GPU_VIDEO || exit 1
virsh nodedev-detach $GPU_AUDIO || exit 1
