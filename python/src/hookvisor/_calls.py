"""Calls that can be interrupted.

A call blocks its thread until the hooks have ended. Python delivers Ctrl-C to its main thread only between two steps of Python
code, so a call from there runs on another thread, and the main thread waits for it.
"""

import atexit
import os
import threading
from typing import Any, Callable, Generic, Optional, TypeVar

from ._native import library

T = TypeVar("T")

_running: "set[Call[Any]]" = set()
_lock = threading.Lock()


class Cancel:
    """Ends running calls, from another thread. It is permanent: later calls with it fail, too.

    >>> cancel = Cancel()
    >>> cancel.cancel()
    >>> cancel.is_cancelled
    True
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: "set[Call[Any]]" = set()
        self._is_cancelled = False

    @property
    def is_cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._is_cancelled

    def cancel(self) -> None:
        """Ends the calls, and returns at once."""
        with self._lock:
            self._is_cancelled = True
            calls = list(self._calls)
        for call in calls:
            call.throw()

    def _add(self, call: "Call[Any]") -> None:
        with self._lock:
            self._calls.add(call)
            is_cancelled = self._is_cancelled
        if is_cancelled:
            call.throw()

    def _remove(self, call: "Call[Any]") -> None:
        with self._lock:
            self._calls.discard(call)


class Call(Generic[T]):
    """One call into the library, which can be ended."""

    def __init__(self, body: "Callable[[Optional[int]], T]", is_start: bool, cancels: "list[Cancel]") -> None:
        self._body = body
        self.is_start = is_start
        self._cancels = cancels
        self._handle: Optional[int] = library.hookvisor_cancel_new()
        self._handle_lock = threading.Lock()
        self._process = os.getpid()
        self._ended = threading.Event()
        self._result: "list[T]" = []
        self._error: Optional[BaseException] = None

    def throw(self, kill: bool = False) -> None:
        """Ends the hooks; at once, without a grace period, if `kill`."""
        end = library.hookvisor_cancel_kill if kill else library.hookvisor_cancel_throw
        with self._handle_lock:
            if self._handle is not None and self._process == os.getpid():
                end(self._handle, None)

    def run(self) -> T:
        """Makes the call on this thread."""
        with _lock:
            _running.add(self)
        try:
            for cancel in self._cancels:
                cancel._add(self)
            return self._body(self._handle)
        finally:
            for cancel in self._cancels:
                cancel._remove(self)
            with self._handle_lock:
                handle, self._handle = self._handle, None
            library.hookvisor_cancel_free(handle)
            with _lock:
                _running.discard(self)
            self._ended.set()

    def _run_and_keep(self, then: "Callable[[], None]") -> None:
        try:
            self._result.append(self.run())
        except BaseException as error:  # it is raised where the result is awaited
            self._error = error
        then()

    def begin(self, then: "Callable[[], None]") -> threading.Thread:
        """Prepares a thread that makes the call, and then calls `then`."""
        return threading.Thread(target=self._run_and_keep, args=(then,), name="hookvisor call", daemon=True)

    def result(self) -> T:
        """What the call gave, once it has ended."""
        if self._error is not None:
            raise self._error
        return self._result[0]

    def has_result(self) -> bool:
        """Whether the call ended with a result."""
        return bool(self._result)

    def wait(self) -> T:
        """Makes the call so that Ctrl-C ends its hooks. A second Ctrl-C kills them."""
        if threading.current_thread() is not threading.main_thread():
            return self.run()
        done = threading.Event()
        thread = self.begin(done.set)
        interrupt: Optional[BaseException] = None
        while True:
            try:
                if thread.ident is None:
                    thread.start()
                # Without a timeout, some versions of Python do not look for signals.
                while not done.wait(3600):
                    pass
                break
            except BaseException as error:  # KeyboardInterrupt, or what a signal handler raises
                if thread.ident is None:
                    raise
                self.throw(kill=interrupt is not None)
                interrupt = error
        if interrupt is not None:
            raise interrupt
        return self.result()


def _end_all() -> None:
    """When the interpreter exits, ends the starts of daemon threads, and waits for other calls, within their hooks' limits."""
    process = os.getpid()
    with _lock:
        calls = [call for call in _running if call._process == process]
    for call in calls:
        if call.is_start:
            call.throw()
    for call in calls:
        call._ended.wait()


atexit.register(_end_all)
