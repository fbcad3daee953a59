"""Events, reports and errors."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Optional, Union


class HookvisorError(Exception):
    """A call failed before any hook was called: the runtime is closed, an argument is wrong, the directory cannot be read."""


class Veto(HookvisorError):
    """A hook refused a start, or could not be called. Do not start the guest.

    The text is what the hooks wrote; `report` has everything.
    """

    def __init__(self, report: "Report") -> None:
        super().__init__(report.text.decode("utf-8", "replace").rstrip())
        self.report = report

    def __reduce__(self) -> Any:
        return (Veto, (self.report,))


@dataclass(frozen=True)
class Event:
    """What is about to happen to a guest, or has happened.

    >>> Event("qemu", "web1", "start", document="<domain/>").then("stopped").operation
    'stopped'
    """

    driver: str
    object: str
    operation: str
    sub_operation: Optional[str] = None
    extra: Optional[str] = None
    document: Union[bytes, str] = b""

    def __post_init__(self) -> None:
        for name in ("driver", "object", "operation", "sub_operation", "extra"):
            value = getattr(self, name)
            if value is None and name in ("sub_operation", "extra"):
                continue
            if not isinstance(value, str):
                raise TypeError(f"{name} must be a str, not {type(value).__name__}")
            if "\0" in value:
                raise ValueError(f"{name} contains a NUL character: {value!r}")
        if not isinstance(self.document, (bytes, str)):
            raise TypeError(f"document must be bytes or a str, not {type(self.document).__name__}")

    def then(self, operation: str) -> "Event":
        """Another operation on the same guest, with the same document."""
        return dataclasses.replace(self, operation=operation, sub_operation=None, extra=None)


@dataclass(frozen=True)
class HookReport:
    """The result of one hook. The fields are those of the JSON report."""

    path: str
    kind: str
    termination: str
    exit_status: int
    signal: Optional[int]
    stderr: str
    stderr_dropped: int
    duration_us: int
    notes: "tuple[str, ...]"
    reason: Optional[str] = None


def _hook(report: "dict[str, Any]") -> HookReport:
    known = {field.name for field in dataclasses.fields(HookReport)}
    fields: "dict[str, Any]" = {name: value for name, value in report.items() if name in known}
    return HookReport(**{**fields, "notes": tuple(fields["notes"])})


@dataclass(frozen=True)
class Report:
    """The result of an event.

    `decision` is "proceed", "vetoed" or "notified". `document` is what the hooks of a filter operation made of the event's
    document, or None. `text` is the report for a person, empty if nothing failed; `json` is the report for a program.
    """

    decision: str
    exit_status: int
    hooks: "tuple[HookReport, ...]"
    document: Optional[bytes]
    text: bytes
    json: str

    @classmethod
    def _of(cls, text: bytes, json_line: bytes, document: Optional[bytes]) -> "Report":
        line = json_line.decode("utf-8")
        fields = json.loads(line)
        hooks = tuple(_hook(hook) for hook in fields["hooks"])
        return cls(fields["decision"], fields["exit_status"], hooks, document, text, line)

    def to_dict(self) -> "dict[str, Any]":
        """The JSON report, parsed."""
        result: "dict[str, Any]" = json.loads(self.json)
        return result

    def failures(self) -> "tuple[HookReport, ...]":
        """The hooks that failed."""
        return tuple(hook for hook in self.hooks if (hook.termination, hook.exit_status) != ("exited", 0))

    def __str__(self) -> str:
        return self.text.decode("utf-8", "replace").rstrip()
