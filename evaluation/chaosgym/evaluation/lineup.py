"""A Lineup: who stands in one report, on the same episodes: the agents of several results, and the rails beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chaosgym.agents.shortcuts import SHORTCUTS
from chaosgym.errors import InputError
from chaosgym.evaluation.row import Row

if TYPE_CHECKING:
    from chaosgym.evaluation.result import EvaluationResult

__all__ = ["Lineup", "line_up"]


@dataclass(frozen=True)
class Lineup:
    """Rows by name; agents come first, in the order of the results."""

    agents: dict[str, tuple[Row, ...]]
    rails: dict[str, tuple[Row, ...]]

    @property
    def everyone(self) -> dict[str, tuple[Row, ...]]:
        """Agents and rails."""
        return {**self.agents, **self.rails}

    @property
    def pictured(self) -> dict[str, tuple[Row, ...]]:
        """Without the shortcuts, which tables and the ceiling show: a picture of a dozen agents shows none."""
        return {**self.agents, **{name: rows for name, rows in self.rails.items() if name not in SHORTCUTS}}


def line_up(results: Sequence[EvaluationResult]) -> Lineup:
    """Put results side by side. Raises InputError without any, for two of one name, and for different episodes."""
    if not results:
        raise InputError("a report needs at least one result; `chaosgym eval AGENT --out FOLDER` makes them")
    agents: dict[str, tuple[Row, ...]] = {}
    expected = {row.episode for row in results[0].rows}
    for result in results:
        if result.agent in agents:
            raise InputError(f"two results are called {result.agent!r}: tell them apart with EvaluationResult.named")
        if {row.episode for row in result.rows} != expected:
            raise InputError(f"{result.agent} and {results[0].agent} answered different episodes: evaluate both on the same ones")
        agents[result.agent] = result.rows
    rails = {name: rows for result in results for name, rows in result.rails.items() if name not in agents}
    return Lineup(agents, rails)
