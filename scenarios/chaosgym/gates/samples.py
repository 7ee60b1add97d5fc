"""A declared symptom as numbers: what was measured in the incident window, one value a request, sample or tenth of a second.

The same numbers of a twin, in which nothing was broken, or of another dose are what they are tested against.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from chaosgym.episode import Episode
from chaosgym.faults.base import Symptom
from chaosgym.telemetry.calls import EDGE
from chaosgym.telemetry.gauges import read_gauges

__all__ = ["Samples", "failures", "log_samples", "shift_probability", "symptom_samples"]

pc: Any = pyarrow.compute  # its functions are made at run time, unseen by type checkers

_GAUGES: dict[str, tuple[str, ...]] = {
    "cpu": ("process.cpu.utilization",),
    "memory": ("redis.memory.used", "process.memory.usage"),
    "files": ("process.unix.file_descriptor.count",),
    "threads": ("process.thread.count",),
    "connections": ("postgresql.database.locks.waiting", "postgresql.backends", "redis.clients.connected"),
}
_BIN = 100_000_000
"""Nanoseconds in which requests are counted for a rate, and averaged into one value."""
_DRAWS = 2_000
Values = npt.NDArray[np.float64]


class Samples(NamedTuple):
    """One series that a symptom may move."""

    name: str
    """What was measured: the signal, or the metric."""
    times: npt.NDArray[np.int64]
    values: Values

    def averaged(self) -> Values:
        """Means of tenths of a second: requests that one hiccup delayed are one value, not many that agree."""
        tenth, place = np.unique(self.times // _BIN, return_inverse=True)
        return np.bincount(place, self.values, len(tenth)) / np.bincount(place, minlength=len(tenth)) if len(tenth) else self.values


def symptom_samples(symptom: Symptom, name: str, episode: Episode) -> list[Samples]:
    """Series that the symptom may move, of the component `name`; none for log lines and silence, which are seen or not."""
    if symptom.signal in ("log", "down", "evictions"):
        return []
    if symptom.signal in _GAUGES:
        return _gauge_samples(symptom, name, episode)
    spans = _spans(symptom, name, episode)
    ended = spans["end_time_unix_nano"].to_numpy()
    if symptom.signal == "errors":
        return [Samples("errors", ended, failures(spans).astype(np.float64))]
    if symptom.signal == "latency":
        return [Samples("latency", ended, (ended - spans["start_time_unix_nano"].to_numpy()) / 1e9)]
    window = episode.header.incident
    bins = np.arange(window.start, window.end, _BIN)
    counts = np.histogram(spans["start_time_unix_nano"].to_numpy(), bins)[0].astype(np.float64)
    return [Samples("rate", bins[:-1], counts)]


def log_samples(symptom: Symptom, name: str, episode: Episode) -> Samples:
    """How many lines a tenth of a second match the symptom: for what a noisy twin logs as well, but less."""
    header = episode.header
    callers = [edge.source for edge in header.edges if edge.target == name]
    where = {"component": [name], "callers": callers, "edge": [header.entry]}[symptom.where]
    logs = episode.tables["logs"]
    mine = logs.filter(pc.is_in(logs["service_name"], pa.array(where, pa.string())))
    match = re.compile(symptom.pattern, re.IGNORECASE).search
    times = [t for t, body in zip(mine["time_unix_nano"].to_pylist(), mine["body"].to_pylist(), strict=True) if match(body or "")]
    bins = np.arange(header.incident.start, header.incident.end, _BIN)
    return Samples("log", bins[:-1], np.histogram(times, bins)[0].astype(np.float64))


def _gauge_samples(symptom: Symptom, name: str, episode: Episode) -> list[Samples]:
    metrics = episode.tables["metrics"]
    mine = metrics.filter(pc.and_(pc.equal(metrics["service_name"], name), pc.is_in(metrics["name"], pa.array(_GAUGES[symptom.signal]))))
    series = read_gauges(mine, episode.header).series
    found: list[Samples] = []
    for metric in _GAUGES[symptom.signal]:
        if (name, metric) in series:
            times, values = series[name, metric].times, series[name, metric].values
            inside = slice(*np.searchsorted(times, list(episode.header.incident)))
            found.append(Samples(metric, times[inside], values[inside]))
    return found


def _spans(symptom: Symptom, name: str, episode: Episode) -> pa.Table:
    """Those in which the symptom is looked for, ended in the incident window."""
    spans, window = episode.tables["spans"], episode.header.incident
    ended = pc.and_(pc.greater_equal(spans["end_time_unix_nano"], window.start), pc.less(spans["end_time_unix_nano"], window.end))
    outgoing = pc.is_in(spans["kind"], pa.array(["client", "producer"]))
    if symptom.where == "component":
        chosen = pc.and_(pc.equal(spans["service_name"], name), pc.invert(outgoing))
    elif symptom.where == "callers":
        host = next(c.host for c in episode.header.components if c.name == name)
        chosen = pc.and_(pc.and_(pc.not_equal(spans["service_name"], name), outgoing), pc.equal(spans["server_address"], host))
    else:
        chosen = pc.equal(spans["service_name"], EDGE)
    return spans.filter(pc.fill_null(pc.and_(ended, chosen), False))


def failures(spans: pa.Table) -> npt.NDArray[np.bool_]:
    """Which spans failed."""
    failed = pc.or_kleene(pc.equal(spans["status_code"], "error"), pc.greater_equal(spans["http_status_code"], 500))
    return pc.fill_null(failed, False).to_numpy().astype(np.bool_)


def shift_probability(before: Values, after: Values, *, up: bool) -> float:
    """One-sided p of a permutation test on the difference of means (Good 2005, chapter 3); 1 without values on both sides."""
    if not len(before) or not len(after):
        return 1.0
    sign = 1.0 if up else -1.0
    both = np.concatenate([before, after])
    found = sign * (after.mean() - before.mean())
    rng = np.random.default_rng(0)
    shuffled = rng.permuted(np.tile(both, (_DRAWS, 1)), axis=1)
    sums = shuffled[:, len(before) :].sum(axis=1)
    means = sums / len(after) - (both.sum() - sums) / len(before)
    return float((1 + np.count_nonzero(sign * means >= found - 1e-12)) / (_DRAWS + 1))
