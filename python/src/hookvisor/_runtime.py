"""Runtimes and guests."""

import asyncio
import ctypes
import json
import os
import weakref
from types import TracebackType
from typing import Any, Callable, Iterable, Optional, Type, Union

from . import _native
from ._calls import Call, Cancel
from ._native import library
from ._report import Event, HookvisorError, Report, Veto

_Path = Union[str, "os.PathLike[str]"]


def _milliseconds(name: str, seconds: Optional[float]) -> int:
    if seconds is None:
        return 0
    if not seconds > 0:
        raise ValueError(f"{name} must be greater than zero, not {seconds}")
    return min(max(round(seconds * 1000), 1), 2**64 - 1)


def _count(name: str, count: Optional[int]) -> int:
    if count is None:
        return 0
    if not 0 < count < 2**64:
        raise ValueError(f"{name} must be greater than zero, not {count}")
    return count


def _text(name: str, text: Optional[str]) -> Optional[bytes]:
    if text is None:
        return None
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a str, not {type(text).__name__}")
    if "\0" in text:
        raise ValueError(f"{name} contains a NUL character: {text!r}")
    return text.encode("utf-8", "surrogateescape")


def _texts(name: str, texts: Optional[Iterable[str]]) -> "Optional[ctypes.Array[ctypes.c_char_p]]":
    """An array that NULL ends."""
    if texts is None:
        return None
    if isinstance(texts, (str, bytes)):
        raise TypeError(f"{name} must be a list of str, not {type(texts).__name__}")
    encoded = [_text(name, text) for text in texts]
    if None in encoded:
        raise TypeError(f"{name} must be a list of str, and contains None")
    return (ctypes.c_char_p * (len(encoded) + 1))(*encoded, None)


def _path(name: str, path: Optional[_Path]) -> Optional[bytes]:
    if path is None:
        return None
    encoded = os.fsencode(path)
    if b"\0" in encoded:
        raise ValueError(f"{name} contains a NUL character: {path!r}")
    return encoded


class Runtime:
    """The hooks of a directory, ready to be called. Many threads and tasks may use it at once.

    Times are in seconds, sizes in bytes. An argument that is None has the library's default: a hook may run for 90 seconds.
    `conventions` defines the operations of your own drivers: the `[convention.NAME]` tables of hookvisor.toml.
    `end_with_host` ends native hooks if this process is killed. `known_drivers` and `require_hooks` veto starts of any other driver,
    and of one without hooks. `confine_all` confines every native hook to what its settings grant. `compiler` is a `hookvisor` program of
    the same version that compiles WebAssembly hooks in a process of its own. Hooks with `state = true` have a directory each in
    `state_directory`.

    Raises HookvisorError if the directory cannot be read or others may write to it. A hook that cannot be called vetoes.
    """

    def __init__(
        self,
        directory: _Path,
        *,
        cache: Optional[_Path] = None,
        only_driver: Optional[str] = None,
        conventions: Optional[str] = None,
        cancel: Optional[Cancel] = None,
        timeout: Optional[float] = None,
        grace: Optional[float] = None,
        leak_wait: Optional[float] = None,
        slow: Optional[float] = None,
        stdout_bytes: Optional[int] = None,
        stderr_bytes: Optional[int] = None,
        memory_bytes: Optional[int] = None,
        max_in_flight: Optional[int] = None,
        end_with_host: bool = False,
        known_drivers: Optional[Iterable[str]] = None,
        compiler: Optional[_Path] = None,
        confine_all: bool = False,
        require_hooks: bool = False,
        state_directory: Optional[_Path] = None,
    ) -> None:
        options = _native.Options(
            cache=_path("cache", cache),
            only_driver=_text("only_driver", only_driver),
            conventions=_text("conventions", conventions),
            timeout_ms=_milliseconds("timeout", timeout),
            grace_ms=_milliseconds("grace", grace),
            leak_wait_ms=_milliseconds("leak_wait", leak_wait),
            slow_ms=_milliseconds("slow", slow),
            stdout_bytes=_count("stdout_bytes", stdout_bytes),
            stderr_bytes=_count("stderr_bytes", stderr_bytes),
            memory_bytes=_count("memory_bytes", memory_bytes),
            max_in_flight=_count("max_in_flight", max_in_flight),
            end_with_host=end_with_host,
            known_drivers=_texts("known_drivers", known_drivers),
            compiler=_path("compiler", compiler),
            confine_all=confine_all,
            require_hooks=require_hooks,
            state_directory=_path("state_directory", state_directory),
        )
        self._cancel = cancel
        error = _native.Error()
        self._handle: Optional[int] = library.hookvisor_open(_path("directory", directory), options, error)
        if self._handle is None:
            raise HookvisorError(error.text())
        self._closer = weakref.finalize(self, library.hookvisor_close, self._handle, None)

    def start(
        self,
        event: Event,
        *,
        within: Optional[float] = None,
        timeout: Optional[float] = None,
        grace: Optional[float] = None,
        cancel: Optional[Cancel] = None,
    ) -> Report:
        """Asks the hooks whether a guest may start, and blocks until they have ended.

        `within` bounds the time of all hooks together. Raises Veto if the guest must not start. Ctrl-C ends the hooks.
        """
        return self._call(library.hookvisor_start, event, within, timeout, grace, cancel).wait()

    def admit(
        self,
        event: Event,
        *,
        within: Optional[float] = None,
        timeout: Optional[float] = None,
        grace: Optional[float] = None,
        cancel: Optional[Cancel] = None,
    ) -> "Guest":
        """Asks as `start` does, and returns the guest. The end of a `with` block, or `stopped`, announces its end."""
        call = self._call(library.hookvisor_start, event, within, timeout, grace, cancel)
        try:
            report = call.wait()
        except BaseException:
            if call.has_result():
                # The hooks agreed, but an interrupt came first.
                Guest(self, event, call.result()).stopped()
            raise
        return Guest(self, event, report)

    def shutdown(
        self,
        event: Event,
        *,
        within: Optional[float] = None,
        timeout: Optional[float] = None,
        grace: Optional[float] = None,
        cancel: Optional[Cancel] = None,
    ) -> Report:
        """Tells the hooks that a guest has stopped. Hooks that fail are in the report; all of them are called."""
        return self._call(library.hookvisor_shutdown, event, within, timeout, grace, cancel).wait()

    def run(
        self,
        event: Event,
        *,
        within: Optional[float] = None,
        timeout: Optional[float] = None,
        grace: Optional[float] = None,
        cancel: Optional[Cancel] = None,
    ) -> Report:
        """Does what `start` or `shutdown` does, whichever the driver's convention says for the operation."""
        return self._call(library.hookvisor_run, event, within, timeout, grace, cancel).wait()

    async def start_async(
        self,
        event: Event,
        *,
        within: Optional[float] = None,
        timeout: Optional[float] = None,
        grace: Optional[float] = None,
        cancel: Optional[Cancel] = None,
    ) -> Report:
        """As `start`, without blocking the event loop. A task that is cancelled ends its hooks."""
        return await _awaited(self._call(library.hookvisor_start, event, within, timeout, grace, cancel))

    async def admit_async(
        self,
        event: Event,
        *,
        within: Optional[float] = None,
        timeout: Optional[float] = None,
        grace: Optional[float] = None,
        cancel: Optional[Cancel] = None,
    ) -> "Guest":
        """As `admit`, without blocking the event loop. The guest is for `async with`, or for `stopped_async`."""
        call = self._call(library.hookvisor_start, event, within, timeout, grace, cancel)
        try:
            report = await _awaited(call)
        except BaseException:
            if call.has_result():
                await asyncio.shield(Guest(self, event, call.result()).stopped_async())
            raise
        return Guest(self, event, report)

    async def shutdown_async(
        self,
        event: Event,
        *,
        within: Optional[float] = None,
        timeout: Optional[float] = None,
        grace: Optional[float] = None,
        cancel: Optional[Cancel] = None,
    ) -> Report:
        """As `shutdown`, without blocking the event loop. If the task is cancelled, the hooks still run to their end."""
        call = self._call(library.hookvisor_shutdown, event, within, timeout, grace, cancel)
        return await _awaited(call)

    def adopt(self, event: Event) -> "Guest":
        """The handle of a guest that an earlier process started. No hook is called before it stops."""
        return Guest(self, event, None)

    def reload(self) -> "dict[str, Any]":
        """Loads the hooks again, all or none, and returns the new inventory."""
        text = ctypes.c_void_p()
        error = _native.Error()
        if not library.hookvisor_reload(self._open(), ctypes.byref(text), error):
            raise HookvisorError(error.text())
        return _inventory(text.value)

    def inventory(self) -> "dict[str, Any]":
        """The files of the hooks directory, and how each is treated: what `hookvisor list --format json` prints."""
        error = _native.Error()
        text = library.hookvisor_inventory(self._open(), error)
        if text is None:
            raise HookvisorError(error.text())
        return _inventory(text)

    def close(self) -> None:
        """Closes the runtime. Calls that are running end normally; later ones raise HookvisorError."""
        self._handle = None
        self._closer()

    def __enter__(self) -> "Runtime":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def _open(self) -> int:
        if self._handle is None:
            raise HookvisorError("the runtime is closed")
        return self._handle

    def _end_of(self, event: Event) -> "Call[Report]":
        """The call for the end of a guest, by the event of its start."""
        return self._call(library.hookvisor_stopped, event, None, None, None, None)

    def _call(
        self,
        function: "Callable[..., int]",
        event: Event,
        within: Optional[float],
        timeout: Optional[float],
        grace: Optional[float],
        cancel: Optional[Cancel],
    ) -> "Call[Report]":
        if not isinstance(event, Event):
            raise TypeError(f"event must be an Event, not {type(event).__name__}")
        handle = self._open()
        document = event.document.encode() if isinstance(event.document, str) else event.document
        given = _native.Event(
            driver=_text("driver", event.driver),
            object=_text("object", event.object),
            operation=_text("operation", event.operation),
            sub_operation=_text("sub_operation", event.sub_operation),
            extra=_text("extra", event.extra),
            document=document,
            document_length=len(document),
        )
        options = _native.CallOptions(
            within_ms=_milliseconds("within", within),
            timeout_ms=_milliseconds("timeout", timeout),
            grace_ms=_milliseconds("grace", grace),
        )

        def body(cancel_handle: Optional[int]) -> Report:
            options.cancel = cancel_handle
            report = ctypes.c_void_p()
            error = _native.Error()
            verdict = function(handle, given, options, ctypes.byref(report), error)
            return _taken(verdict, report.value, error)

        is_start = function is library.hookvisor_start
        return Call(body, is_start, [one for one in (self._cancel, cancel) if one is not None])


async def _awaited(call: "Call[Report]") -> Report:
    """Makes the call on another thread. A task that is cancelled ends a start, and leaves any other call to itself."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def ended() -> None:
        try:
            loop.call_soon_threadsafe(done.set)
        except RuntimeError:
            pass  # The loop was closed: nobody waits.

    call.begin(ended).start()
    try:
        await done.wait()
    except asyncio.CancelledError:
        if call.is_start:
            call.throw()
            await _all_of(done)
        raise
    return call.result()


async def _all_of(done: asyncio.Event) -> None:
    """Waits for the end of a call that was ended, whoever cancels the task once more."""
    while not done.is_set():
        try:
            await done.wait()
        except asyncio.CancelledError:
            continue


def _taken(verdict: int, report: Optional[int], error: _native.Error) -> Report:
    """The report of a call. Frees the library's own."""
    if report is None:
        raise HookvisorError(error.text())
    try:
        text = _native.string(library.hookvisor_report_text, report)
        line = _native.string(library.hookvisor_report_json, report)
        document = _native.string(library.hookvisor_report_document, report)
    finally:
        library.hookvisor_report_free(report)
    taken = Report._of(text or b"", line or b"{}", document)
    if verdict not in (_native.PROCEED, _native.NOTIFIED):
        raise Veto(taken)
    return taken


def _inventory(text: Optional[int]) -> "dict[str, Any]":
    try:
        result: "dict[str, Any]" = json.loads(_native.string(library.hookvisor_text_get, text) or b"{}")
        return result
    finally:
        library.hookvisor_text_free(text)


class Guest:
    """A guest that was allowed to start. Its end is announced to the hooks once: at the end of a `with` block, by `stopped`, or
    when the object is garbage-collected.

    `report` is what the hooks answered to its start, None for an adopted guest. `end` is the report of its end, once announced.
    """

    def __init__(self, runtime: Runtime, event: Event, report: Optional[Report]) -> None:
        self.runtime = runtime
        self.event = event
        self.report = report
        self.end: Optional[Report] = None
        self._teller = weakref.finalize(self, _tell, runtime, event)

    def stopped(self, event: Optional[Event] = None) -> Report:
        """Tells the hooks that the guest has stopped, by an event of your own or by the operation of the driver's convention.

        That operation is `stopped`, or the convention's `ended_by`.
        """
        self.detach()
        self.end = self.runtime.shutdown(event) if event else self.runtime._end_of(self.event).wait()
        return self.end

    async def stopped_async(self, event: Optional[Event] = None) -> Report:
        """As `stopped`, without blocking the event loop."""
        self.detach()
        self.end = await (self.runtime.shutdown_async(event) if event else _awaited(self.runtime._end_of(self.event)))
        return self.end

    def detach(self) -> Event:
        """Releases the guest without telling the hooks: for a guest that outlives this process. See `Runtime.adopt`."""
        self._teller.detach()
        return self.event

    def __enter__(self) -> "Guest":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if self._teller.alive:
            self.stopped()

    async def __aenter__(self) -> "Guest":
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if self._teller.alive:
            await self.stopped_async()


def _tell(runtime: Runtime, event: Event) -> None:
    try:
        runtime._end_of(event).wait()
    except HookvisorError:
        pass  # The runtime is closed: nobody can be told.
