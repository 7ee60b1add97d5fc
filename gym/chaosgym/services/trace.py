"""Tracebacks as a deployed program prints them: its code under `/app`, libraries where an image has them."""

from __future__ import annotations

import sysconfig
import traceback
from functools import cache
from pathlib import Path

__all__ = ["application_folder", "format_traceback"]

_HERE = str(Path(__file__).parent)
_LIBRARIES = sysconfig.get_path("purelib")
_STANDARD = sysconfig.get_path("stdlib")
_IMAGE = f"/usr/local/lib/python{sysconfig.get_python_version()}"
_DEEPEST = 12


@cache
def application_folder(name: str) -> str:
    """Where the code of the service `name` lies in its image, as in `/app/cart_api`."""
    return "/app/" + name.replace("-", "_").replace(".", "_")


def format_traceback(error: BaseException, name: str) -> str:
    """The traceback of `error` alone, without what it was raised from; the innermost frames when there are many."""
    summary = traceback.TracebackException.from_exception(error, compact=True)
    frames = summary.stack[-_DEEPEST:]
    for frame in frames:
        frame.filename = _deployed(frame.filename, name)
    lines = ["Traceback (most recent call last):\n", *traceback.StackSummary.from_list(frames).format(), *summary.format_exception_only()]
    return "".join(lines).rstrip("\n")


def _deployed(path: str, name: str) -> str:
    for prefix, place in ((_HERE, application_folder(name)), (_LIBRARIES, f"{_IMAGE}/site-packages"), (_STANDARD, _IMAGE)):
        if path.startswith(prefix):
            return place + path[len(prefix) :]
    return path
