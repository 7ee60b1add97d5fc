"""A Comparison: two agents on the same episodes, pair by pair, B minus A."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from chaosgym.document import Strict
from chaosgym.errors import InputError
from chaosgym.evaluation.measures import MEASURES, Kind
from chaosgym.evaluation.row import Row
from chaosgym.evaluation.statistics import Interval, mcnemar, paired_bootstrap
from chaosgym.evaluation.tables import comparison_markdown

if TYPE_CHECKING:
    from chaosgym.evaluation.result import EvaluationResult

__all__ = ["Comparison", "Paired", "compare"]

_CLEAR = 0.05
"""Below this p a difference is called one."""


class Paired(Strict):
    """One measure of both agents on the episodes that it is about."""

    n: int
    a: float
    b: float
    difference: float
    """B minus A."""
    interval: Interval | None
    """Bootstrap over episodes: on these scenarios with other seeds."""
    clustered: Interval | None
    """Bootstrap over scenarios: on other scenarios like these."""
    only_a: int | None = None
    """Episodes on which the measure holds for A alone; None for the reward, which is no rate."""
    only_b: int | None = None
    p: float | None = None
    """McNemar's exact test: how likely so uneven a split is when both are equally good."""


class Comparison(Strict):
    """What changed from A to B."""

    a: str
    b: str
    episodes: int
    """Answered by both."""
    unpaired: int
    """Answered by one alone, so left out."""
    measures: dict[str, Paired]

    @property
    def accuracy(self) -> Paired:
        """The headline."""
        return self.measures["accuracy"]

    @property
    def sentence(self) -> str:
        """The headline in words."""
        found = self.accuracy
        p = 1.0 if found.p is None else found.p
        word = "not shown to differ from" if p >= _CLEAR else "better than" if found.difference > 0 else "worse than"
        span = f" [{found.interval.low:+.3f}, {found.interval.high:+.3f}]" if found.interval else ""
        change = f"accuracy {found.a:.3f} -> {found.b:.3f}, difference {found.difference:+.3f}{span}, p = {p:.2g}"
        return f"{self.b} is {word} {self.a} on {self.episodes} episodes: {change}"

    def to_json(self) -> dict[str, Any]:
        """All of it, with the sentence."""
        return {**self.model_dump(mode="json"), "sentence": self.sentence}

    def to_markdown(self) -> str:
        """The sentence and a table of all measures."""
        return comparison_markdown(self)


def compare(a: EvaluationResult, b: EvaluationResult, *, seed: int = 0) -> Comparison:
    """Compare two results on the episodes that both answered.

    Raises InputError when they share none, or when an episode of one id had another truth.
    """
    of_a, of_b = {row.episode: row for row in a.rows}, {row.episode: row for row in b.rows}
    shared = sorted(of_a.keys() & of_b.keys())
    if not shared:
        raise InputError(f"{a.agent} and {b.agent} answered no episode in common; evaluate both on the same --episodes")
    pairs = [(of_a[name], of_b[name]) for name in shared]
    for x, y in pairs:
        if (x.verdict, x.causes, x.scenario) != (y.verdict, y.causes, y.scenario):
            raise InputError(f"episode {x.episode!r} has two truths, so the recordings differ; evaluate both on the same --episodes")
    measures = {name: _paired(pairs, kind, seed) for name, kind in MEASURES.items() if any(kind.of(x) for x, _ in pairs)}
    unpaired = len(of_a) + len(of_b) - 2 * len(shared)
    return Comparison(a=a.agent, b=b.agent, episodes=len(shared), unpaired=unpaired, measures=measures)


def _paired(pairs: Sequence[tuple[Row, Row]], kind: Kind, seed: int) -> Paired:
    values = [(float(kind.value(x)), float(kind.value(y)), x.scenario) for x, y in pairs if kind.of(x)]
    differences = [y - x for x, y, _ in values]
    n = len(values)
    found = Paired(
        n=n,
        a=sum(x for x, _, _ in values) / n,
        b=sum(y for _, y, _ in values) / n,
        difference=sum(differences) / n,
        interval=paired_bootstrap(differences, seed=seed),
        clustered=paired_bootstrap(differences, [scenario for _, _, scenario in values], seed=seed),
    )
    if not kind.rate:
        return found
    only_a, only_b = sum(d < 0 for d in differences), sum(d > 0 for d in differences)
    return found.model_copy(update={"only_a": only_a, "only_b": only_b, "p": mcnemar(only_a, only_b)})
