#!/usr/bin/python3
"""One script under the names of several drivers, with its settings in a module beside it."""
import json
import os
import subprocess
import sys

import forwarding

HERE = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(HERE, "hooks.json")) as file:
    PORTS = json.load(file)

if __name__ == "__main__":
    driver = os.path.basename(sys.argv[0])
    guest, operation = sys.argv[1:3]
    for port in PORTS.get(guest, []):
        if operation in ("stopped", "reconnect"):
            subprocess.call(["iptables", *forwarding.rule("-D", port)])
        if operation in ("start", "reconnect"):
            subprocess.call(["iptables", *forwarding.rule("-I", port)])
    if driver == "network":
        subprocess.call(["logger", sys.path[0], driver, guest, operation])
