#!/bin/bash
source "$(dirname "$0")/lib.sh"
[ "$2" != prepare ] || pages 1024
[ "$2" != release ] || pages 0
