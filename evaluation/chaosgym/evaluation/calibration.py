"""Whether answers that are called 80 % probable are right 8 times in 10."""

from __future__ import annotations

from collections.abc import Sequence

from chaosgym.evaluation.row import Row

__all__ = ["BINS", "calibration_error"]

BINS = 10
"""Equal widths of stated probability."""


def calibration_error(rows: Sequence[Row]) -> float | None:
    """Expected calibration error (Guo et al. 2017, equation 3) of the first cause that each answer names, 0 to 1.

    The distance between mean stated probability and share of right ones in each bin, weighted by its answers. Answers
    that cannot be read state nothing and are left out; None where there is no other.
    """
    stated = [found for row in rows if (found := row.certainty) is not None]
    if not stated:
        return None
    bins: dict[int, list[tuple[float, bool]]] = {}
    for probability, right in stated:
        bins.setdefault(min(int(probability * BINS), BINS - 1), []).append((probability, right))
    return sum(abs(sum(p for p, _ in held) - sum(right for _, right in held)) for held in bins.values()) / len(stated)
