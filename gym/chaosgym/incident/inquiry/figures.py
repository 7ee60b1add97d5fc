"""Numbers as an agent reads them: before -> during the incident, with their unit."""

from __future__ import annotations

import math
from collections.abc import Callable

from chaosgym.telemetry.signals import CallSignals, Change, EdgeSignals

__all__ = ["flow", "moment", "number", "share", "size", "time", "way"]


def _pair(change: Change, write: Callable[[float], str]) -> str:
    before, after = ("?" if math.isnan(value) else write(value) for value in change)
    return before if before == after else f"{before} -> {after}"


def share(change: Change) -> str:
    """Per cent."""
    return _pair(change, lambda value: f"{value:.0%}")


def number(change: Change) -> str:
    """Three digits."""
    return _pair(change, lambda value: f"{value:.3g}")


def time(change: Change) -> str:
    """Milliseconds, from seconds."""
    return _pair(change, lambda value: f"{value * 1000:.0f} ms")


def size(change: Change) -> str:
    """MiB, from bytes."""
    return _pair(change, lambda value: f"{value / 2**20:.1f} MiB")


def moment(seconds: float) -> str:
    """A time from the end of the baseline window."""
    return f"{seconds:+.2f} s"


def flow(calls: CallSignals) -> str:
    """Rate, failures with their kinds, median and 95th percentile."""
    kinds = ", ".join(f"{kind} {part:.0%}" for kind, part in calls.kinds[:3])
    errors = f"errors {share(calls.errors)}{f' ({kinds})' if kinds else ''}"
    return f"{number(calls.rate)}/s, {errors}, p50 {time(calls.p50)}, p95 {time(calls.p95)}"


def way(edge: EdgeSignals) -> str:
    """The calls of one component to another: as `flow`, and what only an edge has."""
    gap = "" if math.isnan(edge.calls.gap.after) else f", of it on the way {time(edge.calls.gap)}"
    again = "" if math.isnan(edge.again.after) else f", calls per request {number(edge.again)}"
    return f"{flow(edge.calls)}{gap}{again}"
