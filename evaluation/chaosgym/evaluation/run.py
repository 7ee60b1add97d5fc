"""The runner: episodes in, answers of the agent and of the rails out.

    episodes ──> scorable cases ──> agent.diagnose in batches ──> rows ──> EvaluationResult

Rails answer the same incidents. They know nothing (null, majority), everything (oracle), the best simple heuristic (rules), or one
line of folklore (the shortcuts).
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chaosgym.agents import Agent, Investigation, Investigator, MajorityAgent, NullAgent, OracleAgent, RulesAgent, right_answer
from chaosgym.agents.shortcuts import SHORTCUTS
from chaosgym.episode import Episode, read_episode
from chaosgym.errors import InfrastructureError, InputError, did_you_mean
from chaosgym.evaluation.provenance import make_provenance
from chaosgym.evaluation.result import EvaluationResult, Example, Excluded
from chaosgym.evaluation.row import Row, make_row
from chaosgym.incident import Incident, compile_incident
from chaosgym.incident.inquiry import gather
from chaosgym.truth import Truth, read_truth

__all__ = ["RAILS", "Case", "answer_cases", "evaluate", "load_cases", "make_rail"]

RAILS = ("oracle", "rules", "majority", "null", *SHORTCUTS)
"""Beside every agent: the best first, then the shortcuts."""
DEFAULT_BUDGET = 700
_EXAMPLES = 6


@dataclass(frozen=True)
class Case:
    """An episode that may be scored: what the agent is shown, and the truth."""

    episode: Episode
    incident: Incident
    truth: Truth


def evaluate(
    agent: Agent,
    episodes: Sequence[Path],
    *,
    seed: int = 0,
    train: Sequence[Path] = (),
    rails: Sequence[str] = RAILS,
    batch_size: int = 16,
) -> EvaluationResult:
    """Let `agent` and the rails answer every scorable one of `episodes` (folders).

    `train` are the episodes that the rail `majority` learns its answer from; without them it learns from those it is
    scored on, which can only flatter it. Reports are compiled with `agent.format.budget` where the agent has one.
    Raises InputError for no or broken episodes, InfrastructureError when none of them may be scored.
    """
    budget = getattr(getattr(agent, "format", None), "budget", DEFAULT_BUDGET)
    cases, excluded = load_cases(episodes, seed, budget)
    fitted = load_cases(train, seed, budget)[0] if train and "majority" in rails else cases
    beside = {name: make_rail(name, cases, fitted, seed) for name in rails if name != agent.name}
    rows = {rail.name: answer_cases(rail, cases, batch_size) for rail in beside.values()}
    ids = [case.episode.header.id for case in cases]
    return EvaluationResult(
        agent=agent.name,
        rows=answer_cases(agent, cases, batch_size),
        rails=rows,
        excluded=excluded,
        examples=_examples(cases),
        provenance=make_provenance(
            agent,
            [*ids, *excluded.unscorable, *excluded.invisible],
            seed=seed,
            budget=budget,
            batch_size=batch_size,
            scenarios=_scenarios(cases),
            majority="train" if train else "evaluated",
        ),
    )


def load_cases(episodes: Sequence[Path], seed: int = 0, budget: int = DEFAULT_BUDGET) -> tuple[list[Case], Excluded]:
    """Compile the report of every scorable episode; say which are not. About 20 ms each.

    Raises InputError when none is given, when one is broken or given twice, and InfrastructureError when none may be scored.
    """
    if not episodes:
        raise InputError("no episodes to evaluate on; `chaosgym record --out FOLDER` makes some")
    cases: dict[str, Case] = {}
    unscorable: dict[str, str] = {}
    invisible: list[str] = []
    for path in episodes:
        episode = read_episode(path)
        name = episode.header.id
        if name in cases or name in unscorable or name in invisible:
            raise InputError(f"{path}: episode {name!r} is given twice; leave one out")
        if episode.header.status != "ok":
            unscorable[name] = episode.header.reason
        elif (truth := read_truth(path)).visible is False:
            invisible.append(name)
        else:
            cases[name] = Case(episode, compile_incident(episode, seed, budget), truth)
    if not cases:
        why = next(iter(unscorable.values()), "their faults left no visible trace")
        raise InfrastructureError(
            f"none of {len(episodes)} episodes may be scored: {len(unscorable)} unscorable, {len(invisible)} invisible ({why}); "
            "`chaosgym doctor` may name the fix, then record again"
        )
    return list(cases.values()), Excluded(unscorable=unscorable, invisible=tuple(invisible))


def make_rail(name: str, cases: Sequence[Case], fitted: Sequence[Case], seed: int) -> Agent:
    """The rail of that name for `cases`; `majority` learns from `fitted`. Raises InputError for an unknown one."""
    make: Mapping[str, Callable[[], Agent]] = {
        "oracle": lambda: OracleAgent((case.incident, case.truth) for case in cases),
        "rules": RulesAgent,
        "majority": lambda: MajorityAgent(((case.incident, right_answer(case.truth)) for case in fitted), seed),
        "null": NullAgent,
        **SHORTCUTS,
    }
    if name not in make:
        raise InputError(f"unknown rail {name!r}{did_you_mean(name, make)}; known: {', '.join(RAILS)}")
    return make[name]()


def answer_cases(agent: Agent, cases: Sequence[Case], batch_size: int = 16) -> tuple[Row, ...]:
    """What `agent` answers, scored, in the order of `cases`; reports of like length share a batch, so that a model pads little.

    Raises InputError when it gives another number of answers than there are incidents.
    """
    order = sorted(range(len(cases)), key=lambda i: (len(cases[i].incident.compact), i))
    rows: dict[int, Row] = {}
    for at in range(0, len(order), batch_size):
        batch = order[at : at + batch_size]
        began = time.perf_counter()
        answers = _answers(agent, [cases[i] for i in batch])
        seconds = (time.perf_counter() - began) / len(batch)
        if len(answers) != len(batch):
            raise InputError(f"agent {agent.name!r} gave {len(answers)} answers to {len(batch)} incidents; diagnose returns one for each")
        rows.update({i: _row(agent, cases[i], answer, seconds) for i, answer in zip(batch, answers, strict=True)})
    return tuple(rows[i] for i in range(len(cases)))


def _answers(agent: Agent, cases: Sequence[Case]) -> Sequence[str | Investigation]:
    """Who asks is given the telemetry of a few episodes at a time."""
    if isinstance(agent, Investigator):
        return agent.investigate([gather(case.episode) for case in cases])
    return agent.diagnose([case.incident for case in cases])


def _row(agent: Agent, case: Case, answer: str | Investigation, seconds: float) -> Row:
    found = answer if isinstance(answer, Investigation) else Investigation(answer, 0, 0)
    row = make_row(agent.name, case.episode.header.id, case.truth, case.incident.components, found.answer, seconds)
    return row if found is not answer else row.model_copy(update={"calls": found.calls, "spent": found.spent})


def _scenarios(cases: Sequence[Case]) -> dict[str, tuple[str, ...]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for case in cases:
        found[case.truth.scenario].add(case.episode.header.scenario_sha256)
    return {name: tuple(sorted(hashes)) for name, hashes in sorted(found.items())}


def _examples(cases: Sequence[Case]) -> tuple[Example, ...]:
    """A few incidents of different faults, drawn by the hash of their id: nobody's answers take part in the choice."""
    seen: dict[str, Case] = {}
    for case in sorted(cases, key=lambda case: hashlib.sha256(case.episode.header.id.encode()).hexdigest()):
        seen.setdefault(case.truth.causes[0].fault if case.truth.causes else "", case)
    return tuple(Example(episode=case.episode.header.id, report=case.incident.readable) for case in list(seen.values())[:_EXAMPLES])
