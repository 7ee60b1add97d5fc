"""Why a step failed, in the terms of HTTP.

Failure          an expected way to fail: a dependency is slow, gone or refuses; becomes a 5xx answer
any other        a bug of the program: becomes 500, with its traceback in the log
"""

from __future__ import annotations

__all__ = ["Failure", "error_name"]


class Failure(Exception):
    """A step could not be done because of somebody else."""

    def __init__(self, status: int, kind: str, text: str, *, peer: str, retry: bool = True) -> None:
        """`kind` is OpenTelemetry's error.type, `peer` the host that failed, `retry` whether another attempt may help."""
        super().__init__(text)
        self.status, self.kind, self.text, self.peer, self.retry = status, kind, text, peer, retry


def error_name(error: BaseException) -> str:
    """The qualified class name, as in `asyncpg.exceptions.InvalidPasswordError`; builtins without module."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
