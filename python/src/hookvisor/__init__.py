"""Hooks for a daemon: ordinary executables and sandboxed WebAssembly decide whether its guests start.

    runtime = Runtime("/etc/mydaemon/hooks")
    with runtime.admit(Event("mydaemon", "web1", "start")):
        ...  # the guest runs; at the end of the block, the hooks are told that it has stopped
"""

from ._calls import Cancel
from ._log import log_to
from ._native import library as _library
from ._report import Event, HookReport, HookvisorError, Report, Veto
from ._runtime import Guest, Runtime

__all__ = ["Cancel", "Event", "Guest", "HookReport", "HookvisorError", "Report", "Runtime", "Veto", "log_to"]

__version__: str = _library.hookvisor_version().decode()
