"""Hooks decide whether a guest starts, and are told when it stops. Needs the package in python/."""

import sys

from hookvisor import Event, HookvisorError, Runtime

directory = sys.argv[1] if len(sys.argv) > 1 else "/etc/mydaemon/hooks"
start = Event("mydaemon", "web1", "start", document='{"memory": 512}')
try:
    # Before: a veto is an exception.
    with Runtime(directory) as hooks, hooks.admit(start) as guest:
        pass  # ... the guest runs, and stops ...
except HookvisorError as error:
    sys.exit(str(error))

# After: failures are reported, and nothing can be prevented.
if guest.end.failures():
    print(guest.end, file=sys.stderr)
