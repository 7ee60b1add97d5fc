"""A declared symptom as numbers: what was measured in the incident window, one value a request, sample or tenth of a second.

The same numbers of a twin, in which nothing was broken, are what they are tested against.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from chaosgym.episode import Episode
from chaosgym.faults.base import Symptom
from chaosgym.telemetry.calls import EDGE
from chaosgym.telemetry.gauges import read_gauges

__all__ = ["shift_probability", "symptom_samples"]

_GAUGES: dict[str, tuple[str, ...]] = {
    "cpu": ("process.cpu.utilization",),
    "memory": ("redis.memory.used", "process.memory.usage"),
    "files": ("process.unix.file_descriptor.count",),
    "connections": ("postgresql.database.locks.waiting", "postgresql.backends", "redis.clients.connected"),
}
_BIN = 100_000_000
"""Nanoseconds in which requests are counted for a rate."""
_DRAWS = 2_000
Values = npt.NDArray[np.float64]


def symptom_samples(symptom: Symptom, name: str, episode: Episode) -> list[Values]:
    """Series that the symptom may move, of the component `name`; none for log lines and silence, which are seen or not."""
    if symptom.signal in ("log", "down"):
        return []
    if symptom.signal in _GAUGES:
        gauges = read_gauges(episode.tables["metrics"], episode.header)
        found = (gauges.series.get((name, metric)) for metric in _GAUGES[symptom.signal])
        return [series.inside(episode.header.incident) for series in found if series is not None]
    spans = list(_spans(symptom, name, episode))
    pick: Callable[[dict[str, Any]], float] = _failed if symptom.signal == "errors" else _seconds
    if symptom.signal != "rate":
        return [np.array([pick(span) for span in spans])]
    window = episode.header.incident
    bins = np.arange(window.start, window.end, _BIN)
    return [np.histogram([span["start_time_unix_nano"] for span in spans], bins)[0].astype(np.float64)]


def _spans(symptom: Symptom, name: str, episode: Episode) -> Iterator[dict[str, Any]]:
    host = next(c.host for c in episode.header.components if c.name == name)
    window = episode.header.incident
    for span in episode.tables["spans"].to_pylist():
        if not window.start <= span["end_time_unix_nano"] < window.end:
            continue
        outgoing = span["kind"] in ("client", "producer")
        at = {
            "component": span["service_name"] == name and not outgoing,
            "callers": span["service_name"] != name and outgoing and span["server_address"] == host,
            "edge": span["service_name"] == EDGE,
        }
        if at[symptom.where]:
            yield span


def _failed(span: dict[str, Any]) -> float:
    return float(span["status_code"] == "error" or (span["http_status_code"] or 0) >= 500)


def _seconds(span: dict[str, Any]) -> float:
    return (span["end_time_unix_nano"] - span["start_time_unix_nano"]) / 1e9


def shift_probability(before: Values, after: Values, *, up: bool) -> float:
    """One-sided p of a permutation test on the difference of means (Good 2005, chapter 3); 1 without values on both sides."""
    if not len(before) or not len(after):
        return 1.0
    sign = 1.0 if up else -1.0
    both = np.concatenate([before, after])
    found = sign * (after.mean() - before.mean())
    rng = np.random.default_rng(0)
    shuffled = rng.permuted(np.tile(both, (_DRAWS, 1)), axis=1)
    means = shuffled[:, len(before) :].mean(axis=1) - shuffled[:, : len(before)].mean(axis=1)
    return float((1 + np.count_nonzero(sign * means >= found - 1e-12)) / (_DRAWS + 1))
