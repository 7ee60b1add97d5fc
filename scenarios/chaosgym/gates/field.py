"""The gates that need many scenarios: does a hack beat chance, does a shortcut do well on a split, does an order give the culprit away?"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence

from chaosgym.agents import Agent, MajorityAgent, NullAgent, RandomAgent, right_answer
from chaosgym.agents.answers import blame
from chaosgym.agents.shortcuts import SHORTCUTS
from chaosgym.diagnosis import MAX_CAUSES
from chaosgym.evaluation.ceiling import CEILING, enough
from chaosgym.evaluation.row import Row
from chaosgym.evaluation.rule import best_rule
from chaosgym.evaluation.statistics import paired_bootstrap
from chaosgym.gates.judge import answer_rows
from chaosgym.gates.trial import Observed
from chaosgym.gates.verdict import Verdict
from chaosgym.incident import Incident
from chaosgym.taxonomy import FAULT_TYPES

__all__ = ["ManyAnswersAgent", "StuffingAgent", "judge_field"]

_SPREAD = 3.0
"""Standard errors that the culprit's mean place in an order may be off the middle."""
_FEW = 20
_LATER_RANKS = 0.03
"""What the quarter that the reward pays for later ranks may add to a blind guess."""


class StuffingAgent:
    """Writes every fault and every component into one text."""

    name = "keyword-stuffing"

    def diagnose(self, incidents: Sequence[Incident]) -> list[str]:
        """The same pile of words for each."""
        return [f"fault {' '.join(FAULT_TYPES)} {' '.join(incident.components)}" for incident in incidents]


class ManyAnswersAgent:
    """Names components drawn at random, three unless told otherwise, each with the same fault, all of them certain."""

    name = "many-answers"

    def __init__(self, label: str, count: int = MAX_CAUSES) -> None:
        self._label, self._count = label, count

    def diagnose(self, incidents: Sequence[Incident]) -> list[str]:
        """That many causes at probability 1 for each."""
        return [self._answer(incident) for incident in incidents]

    def _answer(self, incident: Incident) -> str:
        draw = random.Random(incident.readable)
        picked = draw.sample(incident.components, min(self._count, len(incident.components)))
        return blame(*((name, self._label, 1.0) for name in picked))


def judge_field(runs: Mapping[str, Sequence[Observed]]) -> list[Verdict]:
    """Verdicts on all scenarios together; `runs` are the episodes as written, by scenario."""
    everything = [run for of in runs.values() for run in of]
    if not everything:
        return []
    solved = {name: answer_rows(make(), everything) for name, make in SHORTCUTS.items()}
    return [_hacks(everything), _ceiling(everything, solved), _one_rule(everything), _orders(everything)]


def _hacks(runs: Sequence[Observed]) -> Verdict:
    """Nothing that ignores the report earns more than the best constant answer, chance aside.

    Constant answers: healthy, the most frequent answer, and the most frequent fault at one component, whichever.
    """
    majority = MajorityAgent((run.incident, right_answer(run.truth)) for run in runs)
    faults = Counter(cause.fault for run in runs for cause in run.truth.causes)
    label = faults.most_common(1)[0][0] if faults else next(iter(FAULT_TYPES))
    constants: tuple[Agent, ...] = (majority, NullAgent(), ManyAnswersAgent(label, 1))
    prior = max((_rewards(agent, runs) for agent in constants), key=math.fsum)
    rewards = {agent.name: _rewards(agent, runs) for agent in (RandomAgent(), StuffingAgent(), ManyAnswersAgent(label))}
    means = {name: math.fsum(of) / len(runs) for name, of in rewards.items()}
    said = ", ".join(f"{name} {mean:.3f}" for name, mean in means.items())
    surely = [paired_bootstrap([mine - base for mine, base in zip(of, prior, strict=True)]) for of in rewards.values()]
    passed = all(interval is None or interval.low <= _LATER_RANKS for interval in surely)
    advice = "" if passed else "the reward pays for something else than being right: see docs/reward.md"
    return Verdict("*", "un-hackable", passed, f"mean reward of the prior {math.fsum(prior) / len(runs):.3f}; {said}", advice, means)


def _rewards(agent: Agent, runs: Sequence[Observed]) -> list[float]:
    return [row.reward for row in answer_rows(agent, runs)]


def _splits(runs: Sequence[Observed]) -> dict[str, list[Observed]]:
    """The broken runs of each split that has enough of them, and of different kinds, for a share to say something of it."""
    broken = [run for run in runs if run.truth.causes]
    of = {split: [run for run in broken if run.truth.split == split] for split in sorted({run.truth.split for run in broken})}
    return {split: runs for split, runs in of.items() if enough([run.truth.causes[0].fault for run in runs])}


_FEW_SAID = "no split with broken episodes and kinds of faults enough to judge by"


def _ceiling(runs: Sequence[Observed], solved: Mapping[str, Sequence[Row]]) -> Verdict:
    """Honest one-line heuristics stay low on every split."""
    splits = _splits(runs)
    if not splits:
        return Verdict("*", "shortcuts", None, _FEW_SAID)
    counts = {(split, agent): sum(row.both1 for row in rows if row.causes and row.split == split)
              for split in splits for agent, rows in solved.items()}  # fmt: skip
    figures = {f"{split} {agent}": count / len(splits[split]) for (split, agent), count in counts.items()}
    said = (f"{split}: " + ", ".join(f"{agent} {figures[f'{split} {agent}']:.0%}" for agent in solved) for split in splits)
    passed = max(figures.values()) <= CEILING
    advice = "" if passed else "too many scenarios of the kind that this shortcut solves: add others, or decoys"
    evidence = f"component and fault named on {'; on '.join(said)} (ceiling {CEILING:.0%})"
    return Verdict("*", "shortcuts", passed, evidence, advice, figures)


def _one_rule(runs: Sequence[Observed]) -> Verdict:
    """Neither does the best decision that rests on one number of the report."""
    rules = {split: rule for split, of in _splits(runs).items() if (rule := best_rule([(run.incident, run.truth) for run in of]))}
    if not rules:
        return Verdict("*", "one-rule", None, _FEW_SAID)
    said = "; ".join(f"{split}: {rule.sentence}: right in {rule.share:.0%} of {rule.episodes}" for split, rule in rules.items())
    passed = max(rule.share for rule in rules.values()) <= CEILING
    advice = "" if passed else "one number of the report gives these faults away: add faults that move it as well"
    return Verdict("*", "one-rule", passed, f"{said} (ceiling {CEILING:.0%})", advice, {split: r.share for split, r in rules.items()})


def _orders(runs: Sequence[Observed]) -> Verdict:
    """The culprit stands anywhere in what is ordered without looking at the telemetry."""
    places: dict[str, list[float]] = {"handle number": [], "name": []}
    for run in runs:
        for cause in run.truth.causes[:1]:
            by_handle = sorted(run.incident.handles, key=lambda handle: int(handle[1:]))
            places["handle number"].append(_place([run.incident.handles[handle] for handle in by_handle], cause.component))
            places["name"].append(_place(sorted(run.incident.components), cause.component))
    counts = {name: len(values) for name, values in places.items()}
    if min(counts.values()) < _FEW:
        few = f"{min(counts.values())} broken episodes are too few to judge an order by (asked: {_FEW})"
        return Verdict("*", "leak-free", None, few)
    off = {name: abs(sum(v) / len(v) - 0.5) / math.sqrt(1 / 12 / len(v)) for name, v in places.items()}
    said = ", by ".join(f"{name} {value:.1f}" for name, value in off.items())
    evidence = f"the culprit's place, in standard errors off the middle: by {said}"
    passed = max(off.values()) <= _SPREAD
    return Verdict("*", "leak-free", passed, evidence, "" if passed else "what is ordered so must be shuffled per episode")


def _place(ordered: Sequence[str], name: str) -> float:
    """0 for the first, 1 for the last."""
    return ordered.index(name) / max(len(ordered) - 1, 1) if name in ordered else 0.5
