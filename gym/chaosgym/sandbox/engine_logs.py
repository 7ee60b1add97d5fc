"""What container engines put before each line of a log: an RFC 3339 time with nanoseconds."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

__all__ = ["lines_since"]


def lines_since(text: str, since: int) -> str:
    """The lines written at or after `since` (Unix nanoseconds), without their times."""
    return "".join(f"{line}\n" for at, line in _split(text) if at >= since)


def _split(text: str) -> Iterator[tuple[int, str]]:
    for line in text.splitlines():
        stamp, _, rest = line.partition(" ")
        whole, _, fraction = stamp.rstrip("Z").partition(".")
        try:
            seconds = int(datetime.fromisoformat(f"{whole}+00:00").timestamp())
        except ValueError:  # not a stamp: a line that the engine has broken in two
            continue
        yield seconds * 10**9 + int(fraction.ljust(9, "0")[:9]), rest
