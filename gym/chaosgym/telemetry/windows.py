"""Before and after: the two windows of an episode and the numbers that are compared between them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from chaosgym.episode import EpisodeHeader

__all__ = ["UNKNOWN", "Change", "runs", "window_of"]

BEFORE, AFTER, OUTSIDE = 0, 1, 2


class Change(NamedTuple):
    """One number in the baseline and in the incident window; NaN where nothing is known."""

    before: float = math.nan
    after: float = math.nan

    @property
    def growth(self) -> float:
        """after - before; what was not seen before counts as zero then."""
        return self.after - (0.0 if math.isnan(self.before) else self.before)

    def ratio(self, floor: float) -> float:
        """after / before, both raised to `floor` at least, so that small numbers do not make large ratios."""
        if math.isnan(self.before) or math.isnan(self.after):
            return math.nan
        return max(self.after, floor) / max(self.before, floor)


UNKNOWN = Change()


def window_of(times: npt.NDArray[Any], header: EpisodeHeader) -> npt.NDArray[np.intp]:
    """For each time in Unix nanoseconds 0 (baseline), 1 (incident) or 2 (neither)."""
    window = np.full(len(times), OUTSIDE, dtype=np.intp)
    window[(times >= header.baseline.start) & (times < header.baseline.end)] = BEFORE
    window[(times >= header.incident.start) & (times < header.incident.end)] = AFTER
    return window


def runs(keys: npt.NDArray[Any]) -> list[tuple[int, int]]:
    """(start, end) of each stretch of equal values in `keys`, which are not negative."""
    starts = np.flatnonzero(np.diff(keys, prepend=-1)).tolist()
    return list(zip(starts, [*starts[1:], len(keys)], strict=True)) if starts else []
