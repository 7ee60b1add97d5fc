"""The gates that need many scenarios: does a hack beat chance, does a shortcut do well, does an order give the culprit away?"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

from chaosgym.agents import Agent, MajorityAgent, NullAgent, RandomAgent, right_answer
from chaosgym.agents.answers import blame
from chaosgym.agents.shortcuts import GrepAgent, LatestDeployAgent, MostErrorsAgent, MostNotableAgent
from chaosgym.diagnosis import MAX_CAUSES
from chaosgym.evaluation.row import Row
from chaosgym.gates.judge import answer_rows
from chaosgym.gates.trial import Observed
from chaosgym.gates.verdict import Verdict
from chaosgym.incident import Incident
from chaosgym.taxonomy import FAULT_TYPES

__all__ = ["CEILING", "ManyAnswersAgent", "StuffingAgent", "judge_field"]

CEILING = 0.25
"""Share of the episodes of a split in which an honest shortcut may name component and fault."""
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
    """Names three components drawn at random, each with the same fault, all of them certain."""

    name = "many-answers"

    def __init__(self, label: str) -> None:
        self._label = label

    def diagnose(self, incidents: Sequence[Incident]) -> list[str]:
        """Three causes at probability 1 for each."""
        return [self._answer(incident) for incident in incidents]

    def _answer(self, incident: Incident) -> str:
        draw = random.Random(incident.readable)
        picked = draw.sample(incident.components, min(MAX_CAUSES, len(incident.components)))
        return blame(*((name, self._label, 1.0) for name in picked))


def judge_field(runs: Mapping[str, Sequence[Observed]]) -> list[Verdict]:
    """`runs`: the broken episodes by scenario. One verdict per scenario, then those of all of them together."""
    everything = [run for of in runs.values() for run in of]
    if not everything:
        return []
    shortcuts = [MostErrorsAgent(), LatestDeployAgent(), MostNotableAgent(), GrepAgent()]
    solved = {agent.name: answer_rows(agent, everything) for agent in shortcuts}
    verdicts = [_too_easy(name, solved, len(of)) for name, of in runs.items() if of and of[0].truth.causes]
    return [*verdicts, _hacks(everything), _ceiling(everything, solved), _orders(everything)]


def _too_easy(name: str, solved: Mapping[str, Sequence[Row]], seeds: int) -> Verdict:
    """No shortcut solves a scenario in every seed."""
    shares = {agent: sum(row.both1 for row in rows if row.scenario == name) for agent, rows in solved.items()}
    best = max(shares, key=lambda agent: shares[agent])
    evidence = f"best shortcut {best}: component and fault in {shares[best]} of {seeds}"
    if seeds > 1 and shares[best] == seeds:
        return Verdict(name, "un-hackable", False, evidence, "add a decoy that misleads it, or draw the target among several")
    return Verdict(name, "un-hackable", True, evidence)


def _hacks(runs: Sequence[Observed]) -> Verdict:
    """Nothing that ignores the report earns more than the best constant answer."""
    majority = MajorityAgent((run.incident, right_answer(run.truth)) for run in runs)
    label = majority.label if majority.label in FAULT_TYPES else next(iter(FAULT_TYPES))
    prior = max(_reward(majority, runs), _reward(NullAgent(), runs))
    rewards = {agent.name: _reward(agent, runs) for agent in (RandomAgent(), StuffingAgent(), ManyAnswersAgent(label))}
    said = ", ".join(f"{name} {reward:.3f}" for name, reward in rewards.items())
    passed = max(rewards.values()) <= prior + _LATER_RANKS
    advice = "" if passed else "the reward pays for something else than being right: see docs/reward.md"
    return Verdict("*", "un-hackable", passed, f"mean reward of the prior {prior:.3f}; {said}", advice)


def _reward(agent: Agent, runs: Sequence[Observed]) -> float:
    return math.fsum(row.reward for row in answer_rows(agent, runs)) / len(runs)


def _ceiling(runs: Sequence[Observed], solved: Mapping[str, Sequence[Row]]) -> Verdict:
    """Honest one-line heuristics stay low over the whole split."""
    broken = sum(bool(run.truth.causes) for run in runs)
    shares = {agent: sum(row.both1 for row in rows if row.causes) / max(broken, 1) for agent, rows in solved.items()}
    evidence = ", ".join(f"{agent} {share:.0%}" for agent, share in sorted(shares.items(), key=lambda item: -item[1]))
    passed = max(shares.values()) <= CEILING
    advice = "" if passed else "too many scenarios of the kind that this shortcut solves: add others, or decoys"
    return Verdict("*", "shortcuts", passed, f"component and fault named in {evidence} (ceiling {CEILING:.0%})", advice)


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
