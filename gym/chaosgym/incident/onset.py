"""Onset: when each component's own telemetry first left what its baseline had shown.

Folklore says that what breaks first is the cause, so this is what the shortcut `first-anomaly` goes by. Spans, log
lines and samples of the process count; deploys and the like do not, because they are changes and not anomalies.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from chaosgym.episode import EpisodeHeader
from chaosgym.telemetry.gauges import read_gauges
from chaosgym.telemetry.windows import AFTER, BEFORE, window_of

__all__ = ["first_anomalies"]

pc: Any = pyarrow.compute  # its functions are made at run time, unseen by type checkers

_SLOWER, _SLOWER_FLOOR = 2.0, 0.02
"""A span is late that takes so many times as long as the longest of the baseline, and so many seconds more."""
_WARNING = 13
"""OpenTelemetry's number of the severity from which a line complains."""
_BEYOND: Mapping[str, float] = {"process.cpu.utilization": 0.25, "process.memory.usage": 24 * 2**20}
"""By metric: how far above the largest value of the baseline a sample is an anomaly (cores, bytes)."""

_Times = npt.NDArray[np.int64]
_Marks = npt.NDArray[np.bool_]


def first_anomalies(tables: Mapping[str, pa.Table], header: EpisodeHeader) -> dict[str, float]:
    """Seconds from the end of the baseline to the first anomaly of each component that has one in the incident window."""
    known = {component.name for component in header.components}
    first: dict[str, float] = {}
    for name, time in itertools.chain(_spans(tables["spans"], header), _logs(tables["logs"], header), _samples(tables["metrics"], header)):
        if name in known:
            first[name] = min((time - header.baseline.end) / 1e9, first.get(name, np.inf))
    return first


def _spans(spans: pa.Table, header: EpisodeHeader) -> Iterator[tuple[str, int]]:
    """The first failure of a component that had none, and the first span that took longer than any before."""
    start, end = (pc.fill_null(spans[f"{side}_time_unix_nano"], 0).to_numpy() for side in ("start", "end"))
    seconds = (end - start) / 1e9
    failed = pc.or_kleene(pc.equal(spans["status_code"], "error"), pc.greater_equal(spans["http_status_code"], 500))
    bad = pc.fill_null(failed, False).to_numpy().astype(np.bool_)

    def strange(before: _Times, after: _Times) -> _Marks:
        longest = float(seconds[before].max(initial=0.0))
        late = seconds[after] > max(_SLOWER * longest, longest + _SLOWER_FLOOR)
        return late if bad[before].any() else late | bad[after]

    yield from _firsts(spans["service_name"], end, header, strange)


def _logs(logs: pa.Table, header: EpisodeHeader) -> Iterator[tuple[str, int]]:
    """The first complaint of a component that had none."""
    complains = pc.fill_null(pc.greater_equal(logs["severity_number"], _WARNING), False).to_numpy().astype(np.bool_)

    def strange(before: _Times, after: _Times) -> _Marks:
        return np.zeros(len(after), np.bool_) if complains[before].any() else complains[after]

    yield from _firsts(logs["service_name"], pc.fill_null(logs["time_unix_nano"], 0).to_numpy(), header, strange)


def _firsts(
    owners: pa.ChunkedArray, times: _Times, header: EpisodeHeader, strange: Callable[[_Times, _Times], _Marks]
) -> Iterator[tuple[str, int]]:
    """For each owner the time of its first row in the incident window that `strange(rows before, rows after)` marks."""
    window = window_of(times, header)
    codes = pc.fill_null(owners, "").combine_chunks().dictionary_encode()
    code = codes.indices.to_numpy()
    for number, name in enumerate(codes.dictionary.to_pylist()):
        before, after = (np.flatnonzero((code == number) & (window == which)) for which in (BEFORE, AFTER))
        marked = after[strange(before, after)]
        if len(marked):
            yield name, int(times[marked].min())


def _samples(metrics: pa.Table, header: EpisodeHeader) -> Iterator[tuple[str, int]]:
    """The first sample of a process above all that its baseline had."""
    few = metrics.filter(pc.is_in(metrics["name"], value_set=pa.array(list(_BEYOND))))
    for (name, metric), series in read_gauges(few, header).series.items():
        usual = series.inside(header.baseline)
        a, b = np.searchsorted(series.times, [header.incident.start, header.incident.end])
        high = np.flatnonzero(series.values[a:b] > usual.max(initial=-np.inf) + _BEYOND[metric])
        if len(usual) and len(high):
            yield name, int(series.times[a:b][high[0]])
