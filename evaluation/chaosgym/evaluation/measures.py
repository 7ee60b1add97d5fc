"""Measures: what is reported of an agent, each a mean over some of its rows, with intervals.

    accuracy         all episodes: the right fault at the right component, or healthy where nothing is broken
    verdict          all: fault or healthy, as it was
    component@k      broken ones: the culprit is among the first k named, likewise fault@k and both@k
    family@1         broken ones: the culprit is named first, with a fault of the right family
    false_alarm      healthy ones said to be broken
    missed           broken ones said to be healthy
    hallucination    all: a component is named that is not there
    invalid          all: the answer cannot be read
    reward           all: the mean reward

Latencies are percentiles and the calibration error is a sum over bins, both without intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from chaosgym.evaluation.row import Row
from chaosgym.evaluation.statistics import Interval, clustered, wilson

__all__ = ["MEASURES", "Kind", "Measure", "by_label", "latency", "measure", "summarise"]

_UNIT = Interval(0.0, 1.0)


class Kind(NamedTuple):
    """How one measure is taken."""

    of: Callable[[Row], bool]
    """Which rows it is about."""
    value: Callable[[Row], float]
    better: int
    """1 when more is better, -1 when less is."""
    rate: bool = True
    """Each value is 0 or 1."""


def _all(row: Row) -> bool:
    return True


def _broken(row: Row) -> bool:
    return row.verdict == "fault"


def _healthy(row: Row) -> bool:
    return row.verdict == "healthy"


MEASURES: Mapping[str, Kind] = {
    "accuracy": Kind(_all, lambda r: r.both1, 1),
    "component@1": Kind(_broken, lambda r: r.component1, 1),
    "component@3": Kind(_broken, lambda r: r.component3, 1),
    "fault@1": Kind(_broken, lambda r: r.fault1, 1),
    "fault@3": Kind(_broken, lambda r: r.fault3, 1),
    "family@1": Kind(_broken, lambda r: r.family1, 1),
    "both@1": Kind(_broken, lambda r: r.both1, 1),
    "both@3": Kind(_broken, lambda r: r.both3, 1),
    "verdict": Kind(_all, lambda r: r.valid and r.said == r.verdict, 1),
    "false_alarm": Kind(_healthy, lambda r: r.said == "fault", -1),
    "missed": Kind(_broken, lambda r: r.said == "healthy", -1),
    "hallucination": Kind(_all, lambda r: r.hallucinated, -1),
    "invalid": Kind(_all, lambda r: r.said is None, -1),
    "reward": Kind(_all, lambda r: r.reward, 1, rate=False),
}
"""By name, in the order of reports."""


class Measure(NamedTuple):
    """A mean with its intervals of 95 %."""

    value: float | None
    """None when no row is of the kind it is about."""
    n: int
    interval: Interval | None
    """Wilson's for a rate, Student's for the reward: on these scenarios with other seeds."""
    clustered: Interval | None
    """By scenario: on other scenarios like these. None with one scenario, or where all of them agree."""

    def to_json(self) -> dict[str, float | int | list[float] | None]:
        """As an object, intervals as [low, high]."""
        ends = [list(found) if found else None for found in (self.interval, self.clustered)]
        return {"value": self.value, "n": self.n, "ci95": ends[0], "ci95_clustered": ends[1]}


def measure(rows: Sequence[Row], name: str) -> Measure:
    """Take one measure of `MEASURES` on the rows of one agent."""
    kind = MEASURES[name]
    chosen = [row for row in rows if kind.of(row)]
    values = [float(kind.value(row)) for row in chosen]
    if not values:
        return Measure(None, 0, None, None)
    interval = wilson(round(sum(values)), len(values)) if kind.rate else clustered(values, range(len(values)), bounds=_UNIT)
    by_scenario = clustered(values, [row.scenario for row in chosen], bounds=_UNIT)
    return Measure(sum(values) / len(values), len(values), interval, by_scenario)


def summarise(rows: Sequence[Row]) -> dict[str, Measure]:
    """All measures of one agent."""
    return {name: measure(rows, name) for name in MEASURES}


def latency(rows: Sequence[Row]) -> tuple[float, float]:
    """Median and 95th percentile of the seconds to answer; `rows` is not empty."""
    p50, p95 = np.quantile([row.seconds for row in rows], [0.5, 0.95])
    return float(p50), float(p95)


def by_label(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each true label, labels in the order of the alphabet with `healthy` last."""
    labels = sorted({row.truth_label for row in rows}, key=lambda label: ("." not in label, label))
    return {label: [row for row in rows if row.truth_label == label] for label in labels}
