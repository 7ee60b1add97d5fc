"""The ceiling: how far a one-line shortcut may get on a split before its episodes ask for too little to be worth a score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from chaosgym.agents.shortcuts import SHORTCUTS
from chaosgym.evaluation.measures import Measure, measure
from chaosgym.evaluation.row import Row

__all__ = ["CEILING", "Shortcut", "best_shortcuts", "enough"]

CEILING = 0.25
"""Share of the broken episodes of a split in which a shortcut may name component and fault."""
_FEW, _FEW_TYPES = 20, 8


def enough(faults: Sequence[str]) -> bool:
    """Whether broken episodes with these first faults are a split to judge: a few kinds say only which kinds they are."""
    return len(faults) >= _FEW and len(set(faults)) >= _FEW_TYPES


class Shortcut(NamedTuple):
    """The shortcut that does best on one split."""

    split: str
    agent: str
    both: Measure
    """How often it names component and fault, of the broken episodes."""
    judged: bool
    """Whether there are episodes and kinds of faults enough to judge."""

    @property
    def below(self) -> bool | None:
        """Whether it keeps the ceiling; None where there is too little to judge."""
        return (self.both.value or 0.0) <= CEILING if self.judged else None

    @property
    def sentence(self) -> str:
        """As it stands below tables."""
        words = {True: "kept", False: "BROKEN, this split asks for too little", None: f"asked of {_FEW} episodes with {_FEW_TYPES} faults"}
        share, verdict = self.both.value or 0.0, words[self.below]
        names = f"best shortcut on {self.split}: {self.agent} names component and fault in {share:.1%} of {self.both.n} broken episodes"
        return f"{names} (ceiling {CEILING:.0%}: {verdict})"

    def to_json(self) -> dict[str, Any]:
        """As an object."""
        return {"agent": self.agent, "both@1": self.both.to_json(), "ceiling": CEILING, "below": self.below}


def best_shortcuts(agents: Mapping[str, Sequence[Row]]) -> list[Shortcut]:
    """The best of the shortcuts among `agents` on each split that has broken episodes; empty when none of them ran."""
    rows = {name: of for name, of in agents.items() if name in SHORTCUTS}
    splits = sorted({row.split for of in rows.values() for row in of if row.causes})
    return [_best(split, {name: [row for row in of if row.split == split] for name, of in rows.items()}) for split in splits]


def _best(split: str, rows: Mapping[str, Sequence[Row]]) -> Shortcut:
    found = {name: measure(of, "both@1") for name, of in rows.items()}
    name = max(found, key=lambda agent: found[agent].value or 0.0)
    return Shortcut(split, name, found[name], enough([row.truth_label for row in rows[name] if row.causes]))
