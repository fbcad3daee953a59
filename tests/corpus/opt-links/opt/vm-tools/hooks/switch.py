#!/usr/bin/python3
import subprocess, sys
print("in", sys.path[0])
if sys.argv[2] == "started":
    subprocess.call(["ddcutil", "setvcp", "60", "0x0f"])
