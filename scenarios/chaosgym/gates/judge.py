"""The gates that look at one scenario at a time; `chaosgym.gates.field` has those that need many.

Each takes the trials of a scenario and says passed or not, with the figures and what to change. `docs/gates.md` explains them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence

import numpy as np

from chaosgym.agents import Agent, OracleAgent, RulesAgent
from chaosgym.app import Slo
from chaosgym.evaluation.row import Row, make_row
from chaosgym.faults import make_fault
from chaosgym.gates.samples import shift_probability, symptom_samples
from chaosgym.gates.trial import Exam, Observed, Trial, broken_runs
from chaosgym.gates.verdict import Verdict
from chaosgym.recording.visibility import symptoms_seen
from chaosgym.telemetry.calls import EDGE

__all__ = ["FINDABLE", "answer_rows", "judge_scenario"]

VISIBLE_SHARE = 0.95
SIGNIFICANT = 0.05
STEADY_SHARE = 0.8
"""Share of twins that the rules agent must call healthy."""
FINDABLE = {"easy": 0.8, "medium": 0.6, "hard": 0.3}
"""Share of seeds in which the informed solver must name component and fault, by difficulty."""
UNSCORABLE_SHARE = 0.2
SIMILAR = 0.3
"""Least overlap (Jaccard) of what two runs of one seed report about components."""
_FEW = 5
_TELLING = ("chaosgym", "zygote", "fault_injection", "injected", "toxic", "ground truth")
"""Words of the machinery."""
_OVERLOADED = "the machine is overloaded or the app breaks its SLO by itself; `chaosgym run` shows which"


def judge_scenario(exam: Exam, trials: Sequence[Trial], again: Observed | None) -> list[Verdict]:
    """Every gate of one scenario, in the order in which they build on each other."""
    name = exam.scenario.metadata.name
    healthy = not exam.scenario.spec.faults
    return [
        _steady(name, trials, exam.app.spec.slo, healthy),
        Verdict(name, "visible", None, "nothing breaks") if healthy else _visible(name, trials),
        _solvable(name, trials, FINDABLE[exam.scenario.metadata.difficulty]),
        Verdict(name, "heals", None, "nothing breaks") if healthy else _heals(name, trials, exam),
        _leak_free(name, trials),
        _repeatable(name, trials, again),
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
    passed = calm >= STEADY_SHARE * len(seen)
    return Verdict(name, "steady", passed, evidence, "" if passed else "a decoy looks like a fault: lower its probability or its size")


def _keeps(run: Observed, slo: Slo, start: int, end: int) -> bool:
    """Whether users who came in [start, end) got what the SLO promises."""
    seconds, failed = _users(run, start, end)
    return _kept(seconds, failed, slo)


def _kept(seconds: Sequence[float], failed: int, slo: Slo) -> bool:
    return len(seconds) >= _FEW and failed / len(seconds) <= slo.errors and float(np.percentile(seconds, 95)) <= slo.p95


def _users(run: Observed, start: int, end: int | float) -> tuple[list[float], int]:
    """Durations in seconds of users' requests sent in [start, end), and how many of them failed."""
    mine = [s for s in run.episode.tables["spans"].to_pylist() if s["service_name"] == EDGE and start <= s["start_time_unix_nano"] < end]
    seconds = [(s["end_time_unix_nano"] - s["start_time_unix_nano"]) / 1e9 for s in mine]
    return seconds, sum(s["status_code"] == "error" for s in mine)


def _answered_healthy(answer: str) -> bool:
    return json.loads(answer)["verdict"] == "healthy"


def _visible(name: str, trials: Sequence[Trial]) -> Verdict:
    """A declared symptom is there, and is not there in the twin."""
    pairs = [(t.broken, t.twin) for t in trials if t.broken is not None and t.twin is not None]
    seen = [_different(broken, twin) for broken, twin in pairs]
    shown = sorted({symptom for found in seen for symptom in found})
    count = sum(bool(found) for found in seen)
    evidence = f"{count} of {len(pairs)} seeds differ from their twin (p < {SIGNIFICANT:g}): {', '.join(shown) or 'no declared symptom'}"
    passed = bool(pairs) and count >= VISIBLE_SHARE * len(pairs)
    return Verdict(name, "visible", passed, evidence, "" if passed else "raise the fault's dose, or break a component that users need more")


def _different(broken: Observed, twin: Observed) -> list[str]:
    """Declared symptoms that were noticed in the one, and neither noticed in nor explained by the other."""
    found: list[str] = []
    for cause in broken.truth.causes:
        fault = make_fault(cause.fault, cause.component, cause.parameters)
        noticed, beside = (symptoms_seen({cause.component: fault}, run.episode.tables, run.episode.header) for run in (broken, twin))
        for symptom in fault.symptoms:
            key = f"{symptom.where}/{symptom.signal}/{symptom.direction}"
            if key not in noticed:
                continue
            sides = zip(*(symptom_samples(symptom, cause.component, run.episode) for run in (twin, broken)), strict=False)
            tested = [shift_probability(before, after, up=symptom.direction == "up") for before, after in sides]
            if min(tested) < SIGNIFICANT if tested else key not in beside:
                found.append(key)
    return found


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
    passed = right >= share * len(runs)
    advice = "two faults look alike here: raise the dose, give the fault a tell-tale, or declare a higher difficulty"
    return Verdict(name, "solvable", passed, evidence, "" if passed else advice)


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
    found = sorted({word for run in broken_runs(trials) for word in _leaks(run)})
    where = f"logs, spans, metrics, events, header and report of {len(broken_runs(trials))} runs"
    evidence = f"in {where}: {', '.join(found) or 'no word of the truth'}"
    advice = "" if not found else "rename what carries the word; a name in a component's vocabulary must not be one of a fault"
    return Verdict(name, "leak-free", not found, evidence, advice)


def _leaks(run: Observed) -> Iterator[str]:
    """Words of the truth in what is shown. A type of one plain word ("latency", "lock") is what real software says too."""
    words = [*_TELLING, run.truth.scenario]
    for cause in run.truth.causes:
        kind = cause.fault.partition(".")[2]
        words += [cause.fault, *([kind, kind.replace("_", "-")] if "_" in kind else [])]
    words += [str(t // 1_000_000) for t in (run.truth.injected_unix_nano, run.truth.healed_unix_nano) if t is not None]
    text = "\n".join(_shown(run)).lower()
    yield from (word for word in words if re.search(rf"(?<![a-z0-9]){re.escape(word.lower())}", text))


def _shown(run: Observed) -> Iterator[str]:
    """Everything that an agent can see, as text."""
    yield run.incident.compact
    yield run.incident.readable
    yield run.episode.header.model_dump_json(exclude={"versions"})
    for table in run.episode.tables.values():
        for column in table.columns:
            if str(column.type) == "string":
                yield from (value for value in column.unique().to_pylist() if value)


def _repeatable(name: str, trials: Sequence[Trial], again: Observed | None) -> Verdict:
    """The same seed is the same exam, and few runs are spoiled."""
    spoiled = sum(trial.broken is None for trial in trials)
    first = trials[0].broken
    evidence = f"{spoiled} of {len(trials)} runs unscorable"
    if spoiled > UNSCORABLE_SHARE * len(trials):
        return Verdict(name, "repeatable", False, evidence, _OVERLOADED)
    if first is None or again is None:
        return Verdict(name, "repeatable", None, f"{evidence}; the pair to compare was spoiled", "")
    fields = {"causes", "chain", "decoys", "verdict"}
    same = first.truth.model_dump(include=fields) == again.truth.model_dump(include=fields)
    alike = _overlap(first, again)
    evidence += f"; one seed twice: truth {'the same' if same else 'differs'}, reports {alike:.0%} alike"
    passed = same and alike >= SIMILAR
    advice = "" if passed else "something depends on chance beyond the seed: a dose at the edge of what shows, or a range too wide"
    return Verdict(name, "repeatable", passed, evidence, advice)


def _overlap(a: Observed, b: Observed) -> float:
    """Jaccard overlap of (component, word) pairs; 1 where both have nothing to say."""
    said = [{(name, word) for name, words in run.incident.findings.rows.items() for word in words} for run in (a, b)]
    return len(said[0] & said[1]) / len(said[0] | said[1]) if said[0] | said[1] else 1.0
