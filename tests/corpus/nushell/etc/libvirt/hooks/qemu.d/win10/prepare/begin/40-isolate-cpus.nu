#!/usr/bin/env nu
# source ../../vm_vars.nu
#sh: CORES=$(sed -n 's/^#sh: CORES=//p' "$FILE_PWD/../../vm_vars.nu"); systemctl set-property --runtime -- user.slice "AllowedCPUs=$CORES"
