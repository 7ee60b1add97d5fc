"""Which answered cause stands for which true one, and what that is worth.

With n true causes the first n answered ones count in full, by levels: component, fault family, fault type.
A later one counts a quarter, and only from the right component on, so that listing suspects never
pays like naming the one. Each answered cause stands for at most one true cause.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from chaosgym.diagnosis import Cause
from chaosgym.truth import TrueCause

__all__ = ["LATER", "Match", "best_matches", "worth"]

LATER = 0.25
"""What the right component, and then the right type at it, count behind the first n ranks."""


@dataclass(frozen=True)
class Match:
    """How much of one true cause an answer got: shares 0, `LATER` or 1 of each level."""

    component: float = 0.0
    family: float = 0.0
    fault: float = 0.0
    answer: int | None = None
    """Rank (from 0) of the answered cause that is entirely right, if one is."""


def _family(fault: str) -> str:
    return fault.split(".", 1)[0]


def _match(truth: TrueCause, answered: Cause, rank: int, first: bool) -> Match:
    component, fault = answered.component == truth.component, answered.fault == truth.fault
    right = rank if component and fault else None
    if first:
        return Match(float(component), float(_family(answered.fault) == _family(truth.fault)), float(fault), right)
    return Match(LATER * component, LATER * (right is not None), LATER * (right is not None), right)


def worth(match: Match, weights: tuple[float, float, float]) -> float:
    """The weighted sum of the levels (component, family, fault)."""
    return match.component * weights[0] + match.family * weights[1] + match.fault * weights[2]


def best_matches(truths: Sequence[TrueCause], ranked: Sequence[Cause], weights: tuple[float, float, float]) -> tuple[Match, ...]:
    """Pair each true cause with at most one answered one, so that the sum of `worth` is greatest (3 x 3 at most)."""
    nobody = Match()
    slots = (*range(len(ranked)), *([None] * len(truths)))
    options = (
        tuple(
            nobody if rank is None else _match(truth, ranked[rank], rank, rank < len(truths))
            for truth, rank in zip(truths, pick, strict=True)
        )
        for pick in itertools.permutations(slots, len(truths))
    )
    return max(options, key=lambda matches: (sum(worth(m, weights) for m in matches), sum(m.answer is not None for m in matches)))
