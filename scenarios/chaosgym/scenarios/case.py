"""A Case: the faults of a scenario with one combination of what their parameters can be.

Nothing is drawn for a check: every choice is tried with every other, and of a range both ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Any, NamedTuple

from chaosgym.app import App
from chaosgym.drawing import resolve
from chaosgym.parameter import Choice, Parameter, bounds, reference
from chaosgym.scenario import FaultSpec, Scenario
from chaosgym.source import Loc

__all__ = ["Case", "Draw", "cases"]

_MOST_COMBINATIONS = 5_000


class Draw(NamedTuple):
    """One value that a parameter can take, and where the file says so (relative to `spec`)."""

    loc: Loc
    value: Any


@dataclass(frozen=True)
class Case:
    """One fault of a scenario, with what its parameters are this time."""

    app: App
    index: int
    spec: FaultSpec
    drawn: Mapping[str, Draw]

    def value(self, written: Any) -> Any:
        """What a value of the document comes to."""
        return resolve(written, {name: draw.value for name, draw in self.drawn.items()})

    @property
    def target(self) -> str:
        """The role that it breaks."""
        return str(self.value(self.spec.target))

    def place(self, loc: Loc, written: Any) -> Loc:
        """Where a value comes from: the choice that a reference leads to, or where it is written."""
        ref = reference(written)
        return self.drawn[ref.parameter].loc if ref is not None else ("faults", self.index, *loc)

    @property
    def target_place(self) -> Loc:
        """Where the target comes from."""
        return self.place(("target",), self.spec.target)


def cases(scenario: Scenario, app: App, indices: Sequence[int]) -> Iterator[tuple[Case, ...]]:
    """The faults at `indices` together, with every combination of the parameters that they refer to."""
    faults = [scenario.spec.faults[index] for index in indices]
    names = [name for name in scenario.spec.parameters if any(name in _referred(fault) for fault in faults)]
    draws = [list(_draws(name, scenario.spec.parameters[name])) for name in names]
    for values in islice(product(*draws), _MOST_COMBINATIONS):
        drawn = dict(zip(names, values, strict=True))
        yield tuple(Case(app, index, fault, drawn) for index, fault in zip(indices, faults, strict=True))


def _referred(fault: FaultSpec) -> set[str]:
    return {ref.parameter for written in (fault.target, *fault.parameters.values()) if (ref := reference(written)) is not None}


def _draws(name: str, parameter: Parameter) -> Iterator[Draw]:
    if isinstance(parameter, Choice):
        yield from (Draw(("parameters", name, "choice", index), value) for index, value in enumerate(parameter.choice))
    else:
        low, high, whole = bounds(parameter)
        key = next(iter(type(parameter).model_fields))
        yield from (Draw(("parameters", name, key, index), round(end) if whole else end) for index, end in enumerate((low, high)))
