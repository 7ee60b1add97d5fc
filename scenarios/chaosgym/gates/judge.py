"""The gates that look at one scenario at a time; `chaosgym.gates.field` has those that need many.

Each takes the trials of a scenario and says passed or not, with the figures and what to change. `docs/gates.md` explains them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow.compute

from chaosgym.agents import Agent, OracleAgent, RulesAgent
from chaosgym.agents.shortcuts import SHORTCUTS
from chaosgym.app import Slo
from chaosgym.evaluation.profile import FINDABLE
from chaosgym.evaluation.row import Row, make_row
from chaosgym.faults import fault_class
from chaosgym.gates.calibrated import judge_calibrated
from chaosgym.gates.samples import failures
from chaosgym.gates.share import ENOUGH, falls_short
from chaosgym.gates.trial import Exam, Observed, Seen, Trial, broken_runs
from chaosgym.gates.verdict import Verdict
from chaosgym.gates.visible import judge_visible
from chaosgym.taxonomy import FAULT_TYPES
from chaosgym.telemetry.calls import EDGE

__all__ = ["answer_rows", "judge_scenario"]

pc: Any = pyarrow.compute  # its functions are made at run time, unseen by type checkers

STEADY_SHARE = 0.8
"""Share of twins that the rules agent must call healthy."""
UNSCORABLE_SHARE = 0.2
SIMILAR = 0.3
"""Least overlap (Jaccard) of what two runs of one seed report about components."""
_FEW = 5
_TELLING = ("chaosgym", "zygote", "fault_injection", "injected", "toxic", "ground truth")
"""Words of the machinery."""
_OVERLOADED = "the machine is overloaded or the app breaks its SLO by itself; `chaosgym run` shows which"


def judge_scenario(exam: Exam, seen: Seen) -> list[Verdict]:
    """Every gate of one scenario, in the order in which they build on each other."""
    name, trials = exam.scenario.metadata.name, seen.trials
    healthy = not exam.scenario.spec.faults
    return [
        _steady(name, trials, exam.app.spec.slo, healthy),
        Verdict(name, "visible", None, "nothing breaks") if healthy else judge_visible(name, trials),
        Verdict(name, "calibrated", None, "nothing breaks") if healthy else judge_calibrated(name, seen.swept, trials[0].twin),
        _solvable(name, trials, FINDABLE[exam.scenario.metadata.difficulty]),
        Verdict(name, "heals", None, "nothing breaks") if healthy else _heals(name, trials, exam),
        _leak_free(name, trials),
        _repeatable(name, seen, healthy),
        Verdict(name, "un-hackable", None, "nothing breaks") if healthy else _unhackable(name, broken_runs(trials)),
    ]


def _steady(name: str, trials: Sequence[Trial], slo: Slo, healthy: bool) -> Verdict:
    """Without the fault the SLOs hold and a sensible agent sees nothing."""
    twins = [t.broken if healthy else t.twin for t in trials]
    seen = [twin for twin in twins if twin is not None]
    if not seen:
        return Verdict(name, "steady", False, f"0 of {len(twins)} runs without the fault went through", _OVERLOADED)
    broken = [twin for twin in seen if not _keeps(twin, slo, twin.episode.header.incident.start, twin.episode.header.incident.end)]
    calm = sum(_answered_healthy(answer) for answer in RulesAgent().diagnose([twin.incident for twin in seen]))
    evidence = f"{len(seen)} of {len(twins)} runs without the fault: SLO kept in {len(seen) - len(broken)}, called healthy in {calm}"
    if broken:
        return Verdict(name, "steady", False, evidence, "lower `workload.rate` or the app's work, or loosen an SLO that it never met")
    passed = not falls_short(calm, len(seen), STEADY_SHARE)
    return Verdict(name, "steady", passed, evidence, "" if passed else "a decoy looks like a fault: lower its probability or its size")


def _keeps(run: Observed, slo: Slo, start: int, end: int) -> bool:
    """Whether users who came in [start, end) got what the SLO promises."""
    seconds, failed = _users(run, start, end)
    return _kept(seconds, failed, slo)


def _kept(seconds: Sequence[float], failed: int, slo: Slo) -> bool:
    return len(seconds) >= _FEW and failed / len(seconds) <= slo.errors and float(np.percentile(seconds, 95)) <= slo.p95


def _users(run: Observed, start: int, end: int | float) -> tuple[list[float], int]:
    """Durations in seconds of users' requests sent in [start, end), and how many of them failed."""
    spans = run.episode.tables["spans"]
    spans = spans.filter(pc.equal(spans["service_name"], EDGE))
    sent = spans["start_time_unix_nano"].to_numpy()
    inside = (sent >= start) & (sent < end)
    seconds = (spans["end_time_unix_nano"].to_numpy() - sent)[inside] / 1e9
    return seconds.tolist(), int(failures(spans)[inside].sum())


def _answered_healthy(answer: str) -> bool:
    return json.loads(answer)["verdict"] == "healthy"


def _solvable(name: str, trials: Sequence[Trial], share: float) -> Verdict:
    """The oracle scores 1, and whoever knows the catalogue finds it often enough."""
    runs = broken_runs(trials)
    if not runs:
        return Verdict(name, "solvable", False, f"0 of {len(trials)} runs went through", _OVERLOADED)
    perfect = sum(row.reward == 1 for row in answer_rows(OracleAgent((run.incident, run.truth) for run in runs), runs))
    right = sum(row.both1 for row in answer_rows(RulesAgent(), runs))
    evidence = f"oracle right in {perfect} of {len(runs)}, informed solver in {right} (asked: {share:.0%})"
    if perfect < len(runs):
        return Verdict(name, "solvable", False, evidence, "the truth cannot be said as a diagnosis: at most 3 causes, by public name")
    own = sorted({cause.fault for run in runs for cause in run.truth.causes} - set(FAULT_TYPES))
    if own:  # the solver has a signature for each shipped fault and for no other
        return Verdict(name, "solvable", None, f"oracle right in all {len(runs)}; the informed solver does not know {', '.join(own)}")
    passed = not falls_short(right, len(runs), share)
    advice = "two faults look alike here: raise the dose, give the fault a tell-tale, or declare a higher difficulty"
    return Verdict(name, "solvable", passed, evidence, "" if passed else advice, {"solved": right / len(runs)})


def answer_rows(agent: Agent, runs: Sequence[Observed]) -> list[Row]:
    """What `agent` answers to `runs`, scored; unseen faults too, because a gate has to count them."""
    answers = agent.diagnose([run.incident for run in runs])
    return [
        make_row(agent.name, r.episode.header.id, r.truth.model_copy(update={"visible": None}), r.incident.components, answer, 0.0)
        for r, answer in zip(runs, answers, strict=True)
    ]


def _heals(name: str, trials: Sequence[Trial], exam: Exam) -> Verdict:
    """After the undoing users are served as before; the requests of all seeds together."""
    slo = exam.app.spec.slo
    late = int(exam.broken[0].scenario.spec.timeline.recovery / 2 * 1e9)
    seconds: list[float] = []
    failed = 0
    for run in broken_runs(trials):
        healed = run.truth.healed_unix_nano
        if healed is not None:
            durations, errors = _users(run, healed + late, math.inf)
            seconds, failed = seconds + durations, failed + errors
    p95 = float(np.percentile(seconds, 95)) if seconds else math.nan
    promised = f"{slo.errors:.0%}, {slo.p95 * 1000:.0f} ms"
    evidence = f"from {late / 1e9:g} s after healing {failed} of {len(seconds)} requests failed, p95 {p95 * 1000:.0f} ms (SLO: {promised})"
    passed = _kept(seconds, failed, slo)
    return Verdict(name, "heals", passed, evidence, "" if passed else "give it a longer `timeline.recovery`, or mend the fault's `heal`")


def _leak_free(name: str, trials: Sequence[Trial]) -> Verdict:
    """No word of the truth in anything that an agent can see."""
    runs = broken_runs(trials)
    found = sorted({word for run in runs for word in _leaks(run)})
    where = f"logs, spans, metrics, events, header and report of {len(runs)} runs"
    evidence = f"in {where}: {', '.join(found) or 'no word of the truth'}"
    advice = "" if not found else "rename what carries the word; a name in a component's vocabulary must not be one of a fault"
    return Verdict(name, "leak-free", not found, evidence, advice)


def _leaks(run: Observed) -> Iterator[str]:
    """Words of the truth in what is shown.

    A moment counts from microseconds on: a log that prints milliseconds has that of the injection now and then by
    chance, and where the fault is a message that nobody can read, in the id of that message. A type of one plain word
    ("latency", "lock"), or one that a declared symptom looks for ("violates not-null constraint"), is what real
    software says too.
    """
    words = [*_TELLING, run.truth.scenario]
    for cause in run.truth.causes:
        words.append(cause.fault)
        kind = cause.fault.partition(".")[2]
        spellings = [kind, kind.replace("_", "-"), kind.replace("_", " ")]
        patterns = "\n".join(symptom.pattern.lower() for symptom in fault_class(cause.fault).symptoms)
        if "_" in kind and not any(spelling in patterns for spelling in spellings):
            words += spellings[:2]
    words += [str(t // 1_000) for t in (run.truth.injected_unix_nano, run.truth.healed_unix_nano) if t is not None]
    text = "\n".join(_shown(run)).lower()
    there = (word for word in words if word.lower() in text)  # a plain search first: nearly always it is all that is needed
    yield from (word for word in there if re.search(rf"(?<![a-z0-9]){re.escape(word.lower())}", text))


def _shown(run: Observed) -> Iterator[str]:
    """Everything that an agent can see, as text."""
    yield run.incident.compact
    yield run.incident.readable
    yield run.episode.header.model_dump_json(exclude={"versions"})
    for table in run.episode.tables.values():
        for column in table.columns:
            if str(column.type) == "string":
                yield from (value for value in column.unique().to_pylist() if value)


def _repeatable(name: str, seen: Seen, healthy: bool) -> Verdict:
    """The same seed is the same exam, and few runs are spoiled."""
    first, again = seen.trials[0].broken, seen.again
    whole = [] if healthy else [trial.twin for trial in seen.trials]
    runs = [*(trial.broken for trial in seen.trials), *whole, again, *(run for swept in seen.swept for run in swept.runs)]
    spoiled = sum(run is None for run in runs)
    evidence, figures = f"{spoiled} of {len(runs)} runs unscorable", {"unscorable": spoiled / len(runs)}
    if spoiled > UNSCORABLE_SHARE * len(runs):
        return Verdict(name, "repeatable", False, evidence, _OVERLOADED, figures)
    if first is None or again is None:
        return Verdict(name, "repeatable", None, f"{evidence}; the pair to compare was spoiled", "", figures)
    fields = {"causes", "chain", "decoys", "verdict"}
    same = first.truth.model_dump(include=fields) == again.truth.model_dump(include=fields)
    alike = _overlap(first, again)
    evidence += f"; one seed twice: truth {'the same' if same else 'differs'}, reports {alike:.0%} alike"
    passed = same and alike >= SIMILAR
    advice = "" if passed else "something depends on chance beyond the seed: a dose at the edge of what shows, or a range too wide"
    return Verdict(name, "repeatable", passed, evidence, advice, {**figures, "alike": alike})


def _overlap(a: Observed, b: Observed) -> float:
    """Jaccard overlap of (component, word) pairs; 1 where both have nothing to say."""
    said = [{(name, word) for name, words in run.incident.findings.rows.items() for word in words} for run in (a, b)]
    return len(said[0] & said[1]) / len(said[0] | said[1]) if said[0] | said[1] else 1.0


def _unhackable(name: str, runs: Sequence[Observed]) -> Verdict:
    """No shortcut solves the scenario in every seed; one that is right in half of them is in four now and then."""
    if not runs:
        return Verdict(name, "un-hackable", None, "no run went through")
    solved = {agent: sum(row.both1 for row in answer_rows(make(), runs)) for agent, make in SHORTCUTS.items()}
    best = max(solved, key=lambda agent: solved[agent])
    passed = solved[best] < len(runs) or len(runs) < ENOUGH
    evidence = f"best shortcut {best}: component and fault in {solved[best]} of {len(runs)}"
    advice = "" if passed else "add a decoy that misleads it, or draw the target among several"
    return Verdict(name, "un-hackable", passed, evidence, advice, {agent: count / len(runs) for agent, count in solved.items()})
