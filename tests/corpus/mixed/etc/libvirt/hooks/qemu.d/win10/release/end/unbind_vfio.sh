#!/bin/bash
source "/etc/libvirt/hooks/kvm.conf"
virsh nodedev-reattach $GPU_VIDEO
virsh nodedev-reattach $GPU_AUDIO
modprobe -r vfio-pci
