"""Hooks decide on a guest's start, and hear of its end."""
import ctypes
import sys
from ctypes import c_char_p, c_size_t, c_void_p

PROCEED = 1


class Event(ctypes.Structure):
    _fields_ = [(name, c_char_p) for name in ("driver", "object", "operation", "sub_operation", "extra", "document")]
    _fields_ += [("document_length", c_size_t), ("reserved", c_void_p * 4)]


library = ctypes.CDLL("libhookvisor.so")
library.hookvisor_open.restype = c_void_p
library.hookvisor_open.argtypes = [c_char_p, c_void_p, c_char_p]
library.hookvisor_start.argtypes = [c_void_p, ctypes.POINTER(Event), c_void_p, c_char_p]
library.hookvisor_shutdown.argtypes = library.hookvisor_start.argtypes
library.hookvisor_close.argtypes = [c_void_p, c_char_p]

error = ctypes.create_string_buffer(1024)
directory = sys.argv[1] if len(sys.argv) > 1 else "/etc/mydaemon/hooks"
hooks = library.hookvisor_open(directory.encode(), None, error)
if not hooks:
    sys.exit(error.value.decode())
document = b'{"memory": 512}'
event = Event(b"mydaemon", b"web1", b"start", document=document, document_length=len(document))

# Before: whatever is not this keeps the guest from starting.
if library.hookvisor_start(hooks, event, None, error) != PROCEED:
    sys.exit(error.value.decode(errors="replace"))

# ... the guest runs, and stops ...

# After: this can no longer be refused, only reported.
event.operation = b"stopped"
library.hookvisor_shutdown(hooks, event, None, error)
if error.value:
    print(error.value.decode(errors="replace"), file=sys.stderr)
library.hookvisor_close(hooks, None)
