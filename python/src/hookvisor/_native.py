"""The C library, as ctypes sees it. A call into it releases the GIL."""

import ctypes
import os
from ctypes import POINTER, Structure, c_bool, c_char, c_char_p, c_int, c_int64, c_size_t, c_uint64, c_void_p
from pathlib import Path

PROCEED, NOTIFIED, VETOED, ERROR = 1, 2, -1, -2


class Sized(Structure):
    """A structure that begins with its size."""

    def __init__(self, **fields: object) -> None:
        super().__init__(size=ctypes.sizeof(type(self)), **fields)


class Event(Sized):
    _fields_ = [
        ("size", c_size_t),
        ("driver", c_char_p),
        ("object", c_char_p),
        ("operation", c_char_p),
        ("sub_operation", c_char_p),
        ("extra", c_char_p),
        ("document", c_char_p),
        ("document_length", c_size_t),
    ]


class Options(Sized):
    _fields_ = [
        ("size", c_size_t),
        ("cache", c_char_p),
        ("only_driver", c_char_p),
        ("conventions", c_char_p),
        ("cancel", c_void_p),
        ("timeout_ms", c_uint64),
        ("grace_ms", c_uint64),
        ("leak_wait_ms", c_uint64),
        ("slow_ms", c_uint64),
        ("stdout_bytes", c_uint64),
        ("stderr_bytes", c_uint64),
        ("memory_bytes", c_uint64),
        ("table_elements", c_uint64),
        ("stack_bytes", c_uint64),
        ("module_bytes", c_uint64),
        ("max_in_flight", c_uint64),
        ("end_with_host", c_int),
        ("known_drivers", POINTER(c_char_p)),
        ("compiler", c_char_p),
        ("confine_all", c_int),
        ("require_hooks", c_int),
        ("state_directory", c_char_p),
    ]


class CallOptions(Sized):
    _fields_ = [
        ("size", c_size_t),
        ("cancel", c_void_p),
        ("within_ms", c_uint64),
        ("timeout_ms", c_uint64),
        ("grace_ms", c_uint64),
        ("stdout_bytes", c_uint64),
        ("stderr_bytes", c_uint64),
    ]


class Error(Structure):
    _fields_ = [("message", c_char * 1024)]

    def text(self) -> str:
        message: bytes = self.message
        return message.decode("utf-8", "replace")


class LogRecord(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("level", c_int),
        ("topic", c_int),
        ("message", c_char_p),
        ("driver", c_char_p),
        ("object", c_char_p),
        ("operation", c_char_p),
        ("hook", c_char_p),
        ("exit_status", c_int),
        ("duration_us", c_int64),
    ]


LogFunction = ctypes.CFUNCTYPE(None, POINTER(LogRecord), c_void_p)


def _load() -> ctypes.CDLL:
    """The library beside this file; HOOKVISOR_LIBRARY names another one."""
    library = ctypes.CDLL(os.environ.get("HOOKVISOR_LIBRARY") or str(Path(__file__).with_name("libhookvisor.so")))
    call = [c_void_p, POINTER(Event), POINTER(CallOptions), POINTER(c_void_p), POINTER(Error)]
    signatures = {
        "open": (c_void_p, [c_char_p, POINTER(Options), POINTER(Error)]),
        "start": (c_int, call),
        "shutdown": (c_int, call),
        "stopped": (c_int, call),
        "run": (c_int, call),
        "reload": (c_bool, [c_void_p, POINTER(c_void_p), POINTER(Error)]),
        "inventory": (c_void_p, [c_void_p, POINTER(Error)]),
        "close": (c_bool, [c_void_p, POINTER(Error)]),
        "report_text": (c_void_p, [c_void_p, POINTER(c_size_t)]),
        "report_json": (c_void_p, [c_void_p, POINTER(c_size_t)]),
        "report_document": (c_void_p, [c_void_p, POINTER(c_size_t)]),
        "report_free": (c_bool, [c_void_p]),
        "text_get": (c_void_p, [c_void_p, POINTER(c_size_t)]),
        "text_free": (c_bool, [c_void_p]),
        "cancel_new": (c_void_p, []),
        "cancel_throw": (c_bool, [c_void_p, POINTER(Error)]),
        "cancel_kill": (c_bool, [c_void_p, POINTER(Error)]),
        "cancel_free": (c_bool, [c_void_p]),
        "log_to": (c_bool, [LogFunction, c_void_p, c_int, POINTER(Error)]),
        "version": (c_char_p, []),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, f"hookvisor_{name}")
        function.restype, function.argtypes = result, arguments
    return library


library = _load()


def string(function: object, handle: "int | None") -> "bytes | None":
    """What one of the functions that give a string and its length gives."""
    length = c_size_t()
    pointer = function(handle, ctypes.byref(length))  # type: ignore[operator]
    return ctypes.string_at(pointer, length.value) if pointer else None
