"""The closed language of the compact report: every word of it is meant to be one token.

A level is a letter group and a digit, such as `err3`: the group is the column, the digit the bucket, 0 is
always "as usual". A word therefore says its column by itself, and no word is the prefix of a number.
`BOUNDS` holds the lower bounds of the buckets 1, 2, ... of each column, in the unit named beside it.
"""

from __future__ import annotations

import bisect
import math

from chaosgym.taxonomy import FAULT_TYPES, HEALTHY
from chaosgym.telemetry.failures import FAILURE_KINDS

__all__ = [
    "BOUNDS", "CLOSED_WORDS", "ERROR_KINDS", "EVENT_WORDS", "HANDLES", "KINDS", "LEVELS", "LOG_SIGNS", "PLATFORM_WORDS", "PROBABILITIES",
    "SECTIONS", "STATES", "level", "probability_word",
]

HANDLES: tuple[str, ...] = tuple(f"c{i}" for i in range(1, 41))
"""What components go by; drawn at random for each report."""

SECTIONS: tuple[str, ...] = ("alert", "components", "edges", "logs", "more", "none")
"""Heads of sections; `more` ends a section that was cut, `none` stands for an empty one."""

KINDS: tuple[str, ...] = ("user", "gateway", "service", "worker", "postgres", "redis", "external")
"""What a component is; `user` is the far side of the edge, `external` anything not known better."""

BOUNDS: dict[str, tuple[float, ...]] = {
    # As the component itself sees its requests.
    "err": (0.02, 0.08, 0.25, 0.5, 0.8),  # growth of the share of failed requests
    "lat": (1.6, 2.5, 4.0, 8.0, 16.0),  # median, times as long as before
    "flow": (1.6, 2.0, 2.7, 4.0),  # requests, times as many as before
    "ebb": (1.6, 2.1, 2.8, 5.0),  # requests, times as few as before
    # As its callers see it.
    "fail": (0.02, 0.08, 0.25, 0.5, 0.8),  # growth of the share of failed calls
    "wait": (1.6, 2.5, 4.0, 8.0, 16.0),  # median of calls, times as long as before
    "gap": (0.008, 0.02, 0.05, 0.1, 0.2),  # seconds more between caller and callee, median
    "again": (1.25, 2.0, 2.6, 3.3, 4.5),  # calls per request that makes any, times as many as before
    # Saturation.
    "cpu": (0.08, 0.16, 0.3, 0.5, 0.75),  # growth, in cores
    "mem": (1.15, 1.35, 1.7, 2.2, 3.0),  # memory, times as much as before
    "files": (0.5, 0.7, 0.85, 0.95, 0.99),  # share of the limit
    "slots": (0.5, 0.7, 0.85, 0.95),  # share of the connections that a datastore allows
    "locks": (1.0, 2.0, 4.0, 8.0),  # sessions waiting for a lock
    "full": (0.5, 0.7, 0.85, 0.95),  # share of a datastore's memory limit
    # Numbers of log lines.
    "n": (1.0, 2.0, 5.0, 12.0, 30.0),
}
"""Lower bound of each bucket from 1 on; below the first it is bucket 0."""

LEVELS: tuple[str, ...] = tuple(f"{column}{i}" for column, bounds in BOUNDS.items() for i in range(len(bounds) + 1))

STATES: tuple[str, ...] = ("up", "silent", "down", "back")
"""Of a process: telemetry goes on, none comes though it was not seen to end, it ended, it ended and came back."""

EVENT_WORDS: tuple[str, ...] = ("deploy", "config", "exit", "killed", "oomkill", "restart", "traffic", "scale", "earlier")
"""What happened to a component; `killed` is an exit by signal 9, `oomkill` one for too
much memory, `earlier` marks an event of the baseline window."""

PLATFORM_WORDS: tuple[str, ...] = (
    "unready", "noendpoint", "backoff", "unpulled", "unfit", "unalive", "overquota", "unplaced", "nocapacity", "noconfig", "nosecret",
    "nomount", "noaccount", "noprogram", "noroot",
)
"""What an orchestrator says of a component, see `chaosgym.incident.platform`."""

ERROR_KINDS: tuple[str, ...] = FAILURE_KINDS
"""How requests fail."""

LOG_SIGNS: tuple[str, ...] = (
    "terminated", "started", "stopping", "retrying", "slow", "surge", "new", "debug", "info", "warn", "error", "fatal",
)
"""What a line says besides failures; `new` was never seen before, `surge` much rarer. And how grave it is."""

PROBABILITIES: tuple[str, ...] = tuple(f"{i / 10:.1f}" for i in range(1, 11))
"""How sure an answer is."""

_MARKS = (">", "\n", "=")

CLOSED_WORDS: tuple[str, ...] = tuple(dict.fromkeys((
    *HANDLES, *SECTIONS, *KINDS, *LEVELS, *STATES, *EVENT_WORDS, *PLATFORM_WORDS, *ERROR_KINDS, *LOG_SIGNS, *PROBABILITIES, *_MARKS,
    *FAULT_TYPES, HEALTHY,
)))
"""Every word of the closed part of the compact report and of the answer, each exactly once."""


def level(column: str, value: float) -> str:
    """The word for `value` in `column`; what is not known (NaN) is bucket 0, "as usual"."""
    return f"{column}{0 if math.isnan(value) else bisect.bisect_right(BOUNDS[column], value)}"


def probability_word(probability: float) -> str:
    """The nearest of `PROBABILITIES`."""
    return PROBABILITIES[min(max(round(probability * 10), 1), 10) - 1]
