"""A Row: one agent's answer to one episode, beside the truth, with what it scored.

Everything reported later is computed from rows, and the raw answer is kept, so that old answers can be scored anew.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

from chaosgym.diagnosis import MAX_CAUSES, Cause, Diagnosis, parse_diagnosis
from chaosgym.document import Strict
from chaosgym.rewards import score
from chaosgym.taxonomy import HEALTHY, find
from chaosgym.truth import Truth

__all__ = ["INVALID", "OTHER", "Pair", "Row", "make_row"]

INVALID = "invalid"
"""Label of an answer that cannot be read or names a component that is not there."""
OTHER = "unknown"
"""Label of an answer whose fault the taxonomy does not have."""
_MAX_ANSWER = 4_000


class Pair(NamedTuple):
    """What is broken, and how."""

    component: str
    fault: str


class Row(Strict):
    """One answer. An answer that cannot be read, or names a component that is not there, is right about nothing."""

    agent: str
    episode: str
    scenario: str
    """Name of the scenario; episodes of one scenario are a cluster."""
    app: str
    split: str
    verdict: Literal["fault", "healthy"]
    """The true one."""
    causes: tuple[Pair, ...] = ()
    """The true ones."""
    answer: str
    """As the agent wrote it, with real component names, cut to 4,000 characters."""
    said: Literal["fault", "healthy"] | None = None
    """The stated verdict; None when the answer cannot be read."""
    named: tuple[Pair, ...] = ()
    """The stated causes, most probable first."""
    hallucinated: bool = False
    """It names a component that is not there."""
    component1: bool = False
    """Healthy and said so; or all n culprits are among the first n components named."""
    component3: bool = False
    """... among the first three."""
    fault1: bool = False
    """Likewise of the fault types."""
    fault3: bool = False
    both1: bool = False
    """Likewise of the pairs: the right fault at the right component."""
    both3: bool = False
    reward: float
    terms: dict[str, float]
    """Each term of the reward before its weight."""
    seconds: float
    """Time to answer: its share of the batch in which it was answered."""
    calls: int | None = None
    """Of an investigator: the questions it asked; None for who reads reports."""
    spent: int | None = None
    """What they cost."""

    @property
    def valid(self) -> bool:
        """It can be read and names what is there."""
        return self.said is not None and not self.hallucinated

    @property
    def family1(self) -> bool:
        """Healthy and said so; or the culprits come first, each with a fault of its family."""
        true = {(cause.component, _family(cause.fault)) for cause in self.causes}
        first = {(cause.component, _family(cause.fault)) for cause in self.named[: len(self.causes)]}
        return self.both1 if not true else self.valid and true <= first

    @property
    def certainty(self) -> tuple[float, bool] | None:
        """How probable it calls its first cause, and whether that is one; None for an answer that cannot be read.

        A healthy verdict states no probability: it is taken as certain.
        """
        diagnosis = parse_diagnosis(self.answer) if self.valid else None
        if diagnosis is None:
            return None
        if diagnosis.verdict == "healthy":
            return 1.0, self.verdict == "healthy"
        first = diagnosis.ranked()[0]
        return first.probability, Pair(first.component, first.fault) in self.causes

    @property
    def truth_label(self) -> str:
        """The first true fault, or healthy."""
        return self.causes[0].fault if self.causes else HEALTHY

    @property
    def said_label(self) -> str:
        """The fault named first, `healthy`, `unknown` or `invalid`."""
        if not self.valid:
            return INVALID
        label = self.named[0].fault if self.named else HEALTHY
        return label if label == HEALTHY or find(label) is not None else OTHER


def _family(fault: str) -> str:
    return fault.partition(".")[0]


def make_row(agent: str, episode: str, truth: Truth, components: Collection[str], answer: str, seconds: float) -> Row:
    """Score `answer` to an episode that may be scored (`truth.visible` is not False)."""
    points = score(answer, truth, components)
    if points.total is None:
        raise ValueError(f"episode {episode} may not be scored: {points.reason}")
    diagnosis = parse_diagnosis(answer)
    hallucinated = diagnosis is not None and any(cause.component not in components for cause in diagnosis.causes)
    hits = {} if diagnosis is None or hallucinated else _hits(diagnosis, truth)
    return Row(
        agent=agent,
        episode=episode,
        scenario=truth.scenario,
        app=truth.app,
        split=truth.split,
        verdict=truth.verdict,
        causes=tuple(Pair(cause.component, cause.fault) for cause in truth.causes),
        answer=answer[:_MAX_ANSWER].encode("utf-8", "replace").decode(),  # half a surrogate pair cannot be written
        said=diagnosis.verdict if diagnosis else None,
        named=tuple(Pair(cause.component, cause.fault) for cause in diagnosis.ranked()) if diagnosis else (),
        hallucinated=hallucinated,
        reward=points.total,
        terms=points.terms,
        seconds=seconds,
        **hits,
    )


def _hits(diagnosis: Diagnosis, truth: Truth) -> dict[str, bool]:
    """What the first n ranks (n true causes), and the first three, hold of the truth."""
    if truth.verdict == "healthy":
        right = diagnosis.verdict == "healthy"
        return dict.fromkeys(("component1", "component3", "fault1", "fault3", "both1", "both3"), right)
    true = [Pair(cause.component, cause.fault) for cause in truth.causes]
    ranked = diagnosis.ranked()
    return {**_held(true, ranked[: len(true)], "1"), **_held(true, ranked[:MAX_CAUSES], "3")}


def _held(true: Sequence[Pair], causes: Sequence[Cause], rank: str) -> dict[str, bool]:
    named = {Pair(cause.component, cause.fault) for cause in causes}
    return {
        f"component{rank}": {pair.component for pair in true} <= {pair.component for pair in named},
        f"fault{rank}": {pair.fault for pair in true} <= {pair.fault for pair in named},
        f"both{rank}": set(true) <= named,
    }
