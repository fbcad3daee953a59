"""Uses every function of the package once, for a run under valgrind: memory.py DIRECTORY"""

import asyncio
import gc
import logging
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hookvisor
from hookvisor import Cancel, Event, HookvisorError, Runtime, Veto

DIRECTORY = Path(sys.argv[1])
CONVENTION = """
[convention.mydaemon]
ended_by = "delete"
[convention.mydaemon.operations]
configure = { stage = "start", filter = "json" }
start = "start"
delete = "shutdown"
"""


def hook(name: str, script: str) -> None:
    path = DIRECTORY / "mydaemon.d" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def event(name: str = "web1", operation: str = "start") -> Event:
    return Event("mydaemon", name, operation, extra="x" * 100, document=b'{"memory": 512}' + b" " * 10_000)


def started(runtime: Runtime, name: str) -> bool:
    try:
        with runtime.admit(event(name), within=60, timeout=60):
            return True
    except Veto:
        return False


async def started_in_a_task(runtime: Runtime, name: str) -> bool:
    try:
        async with await runtime.admit_async(event(name)):
            return True
    except Veto:
        return False


async def all_started(runtime: Runtime, names: "list[str]") -> "list[bool]":
    return await asyncio.gather(*(started_in_a_task(runtime, name) for name in names))


def main() -> None:
    hook("10-filter", "[ $2 != configure ] || sed s/512/1024/")
    hook("20-policy", "[ $1 != no ] || { echo \"no $1\" >&2; exit 3; }")
    logger = logging.getLogger("memory")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    hookvisor.log_to(logger)
    names = ["no" if number % 3 == 0 else "yes" for number in range(12)]
    expected = [name == "yes" for name in names]
    cancel = Cancel()
    with Runtime(
        DIRECTORY, conventions=CONVENTION, cancel=cancel, known_drivers=("mydaemon", "other"), max_in_flight=4
    ) as runtime:
        assert runtime.run(event(operation="configure")).document.startswith(b'{"memory": 1024}')
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda name: started(runtime, name), names)) == expected
        assert asyncio.run(all_started(runtime, names)) == expected
        assert len(runtime.reload()["hooks"]) == len(runtime.inventory()["hooks"]) == 2
        hook("30-hangs", "[ $1 != slow ] || exec sleep 3600")
        runtime.reload()
        threading.Timer(0.5, cancel.cancel).start()
        assert not started(runtime, "slow") and not started(runtime, "yes")
    for wrong in (lambda: Runtime(DIRECTORY, conventions="?"), lambda: runtime.start(event()), runtime.inventory):
        try:
            wrong()
        except HookvisorError:
            continue
        raise AssertionError("no error")
    hookvisor.log_to(None)
    gc.collect()


main()
