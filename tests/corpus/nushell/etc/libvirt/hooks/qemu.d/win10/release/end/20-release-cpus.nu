#!/usr/bin/env nu
#sh: systemctl set-property --runtime -- user.slice AllowedCPUs=0-7
