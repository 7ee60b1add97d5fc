"""Metrics as series: one (times, values) per component and metric name, attributes summed up.

Sums are kept as they come (cumulative); `rate` and `delta` turn them into what happened in a window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from chaosgym.episode import EpisodeHeader, Window
from chaosgym.telemetry.windows import UNKNOWN, Change, runs

__all__ = ["Gauges", "Series", "read_gauges"]

pc: Any = pyarrow.compute  # its functions are made at run time, unseen by type checkers


@dataclass(frozen=True)
class Series:
    """Values of one metric of one component, in order of time (Unix nanoseconds)."""

    times: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]

    def inside(self, window: Window) -> npt.NDArray[np.float64]:
        """The values sampled in `window`."""
        a, b = np.searchsorted(self.times, [window.start, window.end])
        return self.values[a:b]


@dataclass(frozen=True)
class Gauges:
    """All series of an episode with the windows to compare."""

    series: dict[tuple[str, str], Series]
    header: EpisodeHeader

    def find(self, component: str, names: Sequence[str]) -> Series | None:
        """The first of `names` that the component has."""
        return next((self.series[component, name] for name in names if (component, name) in self.series), None)

    def mean(self, component: str, *names: str) -> Change:
        """Average of a gauge in each window."""
        return self._compare(component, names, lambda values: float(values.mean()))

    def peak(self, component: str, *names: str) -> Change:
        """Largest value of a gauge in each window."""
        return self._compare(component, names, lambda values: float(values.max()))

    def least(self, component: str, *names: str) -> Change:
        """Smallest value of a gauge in each window."""
        return self._compare(component, names, lambda values: float(values.min()))

    def sustained(self, component: str, *names: str) -> Change:
        """Largest value of a gauge that three samples of each window reached."""
        return self._compare(component, names, lambda values: float(np.sort(values)[-3:][0]))

    def rate(self, component: str, *names: str) -> Change:
        """Growth per second of a cumulative sum in each window; a reset to a smaller value counts as no growth."""
        found = self.find(component, names)
        if found is None:
            return UNKNOWN
        return Change(*(_growth(found, window) for window in (self.header.baseline, self.header.incident)))

    def last_seen(self, component: str, *, process: bool) -> float:
        """Seconds from the last sample of the component's process (or of anything else it reports) to the incident's end; NaN when none."""
        end = self.header.incident.end
        mine = (series for (owner, name), series in self.series.items() if owner == component and name.startswith("process.") == process)
        times = [int(series.times[at - 1]) for series in mine if (at := int(np.searchsorted(series.times, end)))]
        return (end - max(times)) / 1e9 if times else math.nan

    def _compare(self, component: str, names: Sequence[str], reduce: Any) -> Change:
        found = self.find(component, names)
        if found is None:
            return UNKNOWN
        parts = (found.inside(window) for window in (self.header.baseline, self.header.incident))
        return Change(*(reduce(values) if len(values) else math.nan for values in parts))


def _growth(series: Series, window: Window) -> float:
    a, b = np.searchsorted(series.times, [window.start, window.end])
    a = max(a - 1, 0)
    if b - a < 2:
        return math.nan
    rise = np.diff(series.values[a:b]).clip(min=0).sum()
    return float(rise) / ((int(series.times[b - 1]) - int(series.times[a])) / 1e9)


def read_gauges(metrics: pa.Table, header: EpisodeHeader) -> Gauges:
    """Split `metrics` (schema METRICS) into series; histograms are left out."""
    rows = metrics.filter(pc.not_equal(metrics["type"], "histogram"))
    owner, owners = _encode(rows["service_name"])
    name, names = _encode(rows["name"])
    times = rows["time_unix_nano"].to_numpy()
    values = pc.fill_null(rows["value"], math.nan).to_numpy()
    key = owner * len(names) + name
    order = np.lexsort((times, key))
    series: dict[tuple[str, str], Series] = {}
    for a, b in runs(key[order]):
        part = order[a:b]
        k = int(key[part[0]])
        series[owners[k // len(names)], names[k % len(names)]] = _summed(times[part], values[part])
    return Gauges(series, header)


def _encode(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.intp], list[str]]:
    encoded = pc.fill_null(column, "").combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy().astype(np.intp), encoded.dictionary.to_pylist()


def _summed(times: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> Series:
    """Points of the same time (one per attribute set) added up."""
    starts = np.flatnonzero(np.diff(times, prepend=-1))
    if len(starts) == len(times):
        return Series(times, values)
    return Series(times[starts], np.add.reduceat(values, starts))
