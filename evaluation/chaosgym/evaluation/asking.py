"""Asking: what an investigator's questions cost, and how much is right with how little of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from chaosgym.evaluation.row import Row

__all__ = ["Point", "asking_summary", "by_budget", "mean_of", "right_within"]

_COSTS = (5, 10, 15, 20, 25, 30)


class Point(NamedTuple):
    """What is reached with questions that cost no more than this."""

    most: int
    answered: float
    """Share of all episodes in which a diagnosis was submitted by then."""
    accuracy: float
    """Share of all episodes in which that was right, too."""


def by_budget(rows: Sequence[Row]) -> tuple[Point, ...]:
    """A point for each of several costs, up to one that covers all; empty where nothing was asked for."""
    costs = [row.spent for row in rows if row.spent is not None]
    if not costs:
        return ()
    reached = next((i for i, cost in enumerate(_COSTS) if cost >= max(costs)), len(_COSTS) - 1)
    return tuple(_point(rows, most) for most in (*_COSTS[: reached + 1], *([max(costs)] if max(costs) > _COSTS[-1] else [])))


def _point(rows: Sequence[Row], most: int) -> Point:
    there = [row for row in rows if row.spent is not None and row.spent <= most and row.answer]
    return Point(most, len(there) / len(rows), sum(right_within(row, most) for row in rows) / len(rows))


def right_within(row: Row, most: int) -> bool:
    """Whether the diagnosis is right, after questions that cost no more than `most`."""
    return bool(row.answer) and row.both1 and row.spent is not None and row.spent <= most


def mean_of(rows: Sequence[Row], what: Literal["calls", "spent"]) -> float:
    """Over all episodes that were asked about."""
    values = [value for row in rows if (value := getattr(row, what)) is not None]
    return sum(values) / len(values) if values else 0.0


def asking_summary(rows: Sequence[Row]) -> dict[str, Any]:
    """As an object."""
    points = [point._asdict() for point in by_budget(rows)]
    return {"calls": mean_of(rows, "calls"), "spent": mean_of(rows, "spent"), "by_cost": points}
