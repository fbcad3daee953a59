"""The library's log, as records of the module logging."""

import atexit
import logging
from typing import Any, Optional

from ._native import Error, LogFunction, library
from ._report import HookvisorError

_LEVELS = {1: logging.ERROR, 2: logging.WARNING, 3: logging.INFO, 4: logging.DEBUG}
# What a record is about, by the numbers of hookvisor_log_topic.
_TOPICS = {1: "started", 2: "slow", 3: "ended", 4: "vetoed", 5: "broken", 6: "guest"}
_function: Any = LogFunction()


def log_to(logger: "Optional[logging.Logger]") -> None:
    """Passes what hookvisor logs to this logger; None ends that.

    Each record has the attributes `topic`, `driver`, `object`, `operation`, `hook`, `exit_status` and `duration_us`, None where
    they do not apply. `topic` is "started" (at DEBUG) and "ended" for each call of a hook, "slow" for one that takes long, "vetoed"
    for a start, "broken" for a hook that cannot be called, and "guest" for a line that a WebAssembly hook logs. The logger's level at the time of this call applies.
    """
    global _function
    if logger is None:
        function, level = LogFunction(), 1
    else:
        wanted = logger.getEffectiveLevel()
        level = max((own for own, python in _LEVELS.items() if python >= wanted), default=1)
        function = LogFunction(_Bridge(logger))
    error = Error()
    if not library.hookvisor_log_to(function, None, level, error):
        raise HookvisorError(error.text())
    # ctypes frees a function that nothing refers to.
    _function = function


class _Bridge:
    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def __call__(self, pointer: Any, _data: Any) -> None:
        record = pointer.contents

        def text(value: "Optional[bytes]") -> "Optional[str]":
            return None if value is None else value.decode("utf-8", "replace")

        extra = {name: text(getattr(record, name)) for name in ("driver", "object", "operation", "hook")}
        numbers = {name: None if getattr(record, name) < 0 else getattr(record, name) for name in ("exit_status", "duration_us")}
        topic = _TOPICS.get(record.topic)
        self._logger.log(_LEVELS[record.level], "%s", text(record.message), extra={"topic": topic, **extra, **numbers})


atexit.register(log_to, None)
