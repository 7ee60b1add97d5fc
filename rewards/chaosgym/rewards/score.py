"""One scorer with visible terms: gate, then correctness, then bounded extras.

    term         weight   1 when
    format         .05    the answer parses and names only components that exist (else the total is 0)
    verdict        .12    fault or healthy, as it was
    component      .40    the culprit is named at rank 1
    family         .10    ... its fault family
    fault          .30    ... its fault type
    calibration    .02    stated probabilities fit: 1 - sum of squared differences (Brier 1950), at least 0
    evidence       .01    every piece of evidence names components on the way from the cause to the edge

Correctness moves in steps of at least .0333 (.10 with one true cause), the extras together
weigh .03: no combination of them outranks a more correct answer. Nothing here reads anything that an agent can write but the answer.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from chaosgym.diagnosis import Cause, Diagnosis, parse_diagnosis
from chaosgym.rewards.matching import Match, best_matches
from chaosgym.truth import Truth

__all__ = ["EXTRAS", "WEIGHTS", "Score", "score"]

WEIGHTS: Mapping[str, float] = {
    "format": 0.05, "verdict": 0.12, "component": 0.40, "family": 0.10, "fault": 0.30, "calibration": 0.02, "evidence": 0.01,
}
EXTRAS: tuple[str, ...] = ("calibration", "evidence")
"""Terms that are not correctness; together lighter than its smallest step."""

_LEVELS = (WEIGHTS["component"], WEIGHTS["family"], WEIGHTS["fault"])


@dataclass(frozen=True)
class Score:
    """What an answer is worth: `total` in [0, 1], or None where the episode may not be scored."""

    total: float | None
    terms: dict[str, float] = field(default_factory=dict)
    """Each term before its weight, in [0, 1]; empty when unscorable."""
    reason: str = ""
    """Why the answer scored the floor, or why the episode is unscorable."""

    @property
    def correctness(self) -> float:
        """The weighted terms without the extras: what ranks one answer above another."""
        return sum(WEIGHTS[name] * value for name, value in self.terms.items() if name not in EXTRAS)


def score(answer: str | Diagnosis | None, truth: Truth, components: Collection[str]) -> Score:
    """Score `answer` against `truth`; `components` are the public names that the episode has.

    None (the agent gave nothing) and text without a readable diagnosis score 0, and so does an answer
    that names a component not in `components`. An invisible fault is unscorable: `total` is None.
    """
    if truth.visible is False:
        return Score(None, reason="the fault left no visible trace")
    diagnosis = parse_diagnosis(answer) if isinstance(answer, str) else answer
    if diagnosis is None:
        return _floor("no readable diagnosis: JSON with a verdict and, for a fault, 1 to 3 causes")
    unknown = sorted({cause.component for cause in diagnosis.causes} - set(components))
    if unknown:
        return _floor(f"no such component: {', '.join(unknown)}")
    terms = {"format": 1.0, **_correctness(diagnosis, truth), "evidence": _evidence(diagnosis, truth, components)}
    return Score(min(1.0, sum(WEIGHTS[name] * value for name, value in terms.items())), terms)


def _floor(reason: str) -> Score:
    return Score(0.0, dict.fromkeys(WEIGHTS, 0.0), reason)


def _correctness(diagnosis: Diagnosis, truth: Truth) -> dict[str, float]:
    if diagnosis.verdict != truth.verdict or truth.verdict == "healthy":
        right = float(diagnosis.verdict == truth.verdict)
        calibration = right if diagnosis.verdict == "healthy" else _calibration(diagnosis.ranked(), (), 1)
        return {"verdict": right, "component": right, "family": right, "fault": right, "calibration": calibration}
    ranked = diagnosis.ranked()
    matches = best_matches(truth.causes, ranked, _LEVELS)
    return {
        "verdict": 1.0,
        "component": _mean([m.component for m in matches]),
        "family": _mean([m.family for m in matches]),
        "fault": _mean([m.fault for m in matches]),
        "calibration": _calibration(ranked, matches, len(matches)),
    }


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _calibration(ranked: tuple[Cause, ...], matches: tuple[Match, ...], causes: int) -> float:
    """One minus the squared distance between stated probabilities and what was right, per true cause.

    A sum and not a mean over what was stated: suspects added at probability 0 change nothing.
    """
    right = {match.answer for match in matches}
    distance = sum((cause.probability - (rank in right)) ** 2 for rank, cause in enumerate(ranked))
    return max(0.0, 1.0 - distance / causes)


def _evidence(diagnosis: Diagnosis, truth: Truth, components: Collection[str]) -> float:
    """Share of the pieces that name a component of the causal chain and none off it; healthy needs none."""
    if truth.verdict == "healthy":
        return float(diagnosis.verdict == "healthy")
    chain = {*truth.chain, *(cause.component for cause in truth.causes)}
    named = [_named(piece, components) for piece in diagnosis.evidence]
    return sum(bool(names) and names <= chain for names in named) / len(named) if named else 0.0


def _named(piece: str, components: Collection[str]) -> set[str]:
    """The component names that stand as words in `piece` (a name within a longer one does not count)."""
    words = set(re.findall(r"[\w.-]+", piece))
    return {name for name in components if name in words or f"{name}." in words}
