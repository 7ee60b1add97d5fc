"""Each gate on what it must let through, and on what it must stop, for the right reason."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from chaosgym.gates import Verdict, plan_exams, run_gates
from chaosgym.gates.field import judge_field
from chaosgym.gates.judge import judge_scenario
from chaosgym.gates.samples import shift_probability
from chaosgym.gates.trial import Exam, Observed, Trial, broken_runs, observe, read_trial
from chaosgym.recording.pool import LocalPool
from chaosgym.scenarios import load_app, load_scenario
from chaosgym.telemetry.store import table_from_rows

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(240)]

_SEEDS = 2
Proven = tuple[Exam, tuple[Trial, ...], Observed, list[Verdict]]


@pytest.fixture(scope="module")
def proven(tmp_path_factory: pytest.TempPathFactory) -> Proven:
    """One scenario, run for real."""
    out = tmp_path_factory.mktemp("gates")
    scenario = load_scenario("network-partition")
    (exam,) = plan_exams([scenario], {"shop": load_app("shop")}, _SEEDS)
    with LocalPool(2) as pool:
        verdicts = run_gates([exam], pool, out, lambda task, outcome: None)
    trials = tuple(read_trial(b, t, out / "trials") for b, t in zip(exam.broken, exam.twins, strict=True))
    again = observe(out / "again" / exam.again[0].id)
    assert again is not None
    assert len(broken_runs(trials)) == _SEEDS, "the machine was too busy to try anything"
    return exam, trials, again, verdicts


def _verdict(verdicts: Sequence[Verdict], gate: str) -> Verdict:
    return next(v for v in verdicts if v.gate == gate)


def _judge(proven: Proven, gate: str, trials: Sequence[Trial] | None = None, again: Observed | None = None) -> Verdict:
    return _verdict(judge_scenario(proven[0], trials or proven[1], again or proven[2]), gate)


def _stopped(verdict: Verdict, said: str) -> None:
    assert verdict.passed is False
    assert said in verdict.evidence
    assert verdict.advice


def test_a_shipped_scenario_passes(proven: Proven) -> None:
    failed = [v for v in proven[3] if v.passed is False and v.gate in ("visible", "heals", "leak-free", "repeatable")]
    assert not failed
    assert f"oracle right in {_SEEDS} of {_SEEDS}" in _verdict(proven[3], "solvable").evidence  # two seeds say little of a solver


def test_a_scenario_whose_twin_is_broken_is_not_steady(proven: Proven) -> None:
    trials = [replace(t, twin=t.broken) for t in proven[1]]
    verdict = _judge(proven, "steady", trials)
    _stopped(verdict, "SLO kept in 0")


def test_a_fault_that_changes_nothing_is_not_visible(proven: Proven) -> None:
    unseen = [replace(t, broken=replace(t.twin, truth=t.broken.truth)) for t in proven[1] if t.twin and t.broken]
    verdict = _judge(proven, "visible", unseen)
    _stopped(verdict, f"0 of {_SEEDS} seeds differ")


def test_a_fault_that_looks_like_another_is_not_solvable(proven: Proven) -> None:
    def other(run: Observed) -> Observed:
        cause = run.truth.causes[0].model_copy(update={"fault": "resource.memory_leak"})
        return replace(run, truth=run.truth.model_copy(update={"causes": (cause,)}))

    verdict = _judge(proven, "solvable", [replace(t, broken=other(t.broken)) for t in proven[1] if t.broken])
    _stopped(verdict, "informed solver in 0")


def test_a_fault_that_stays_does_not_heal(proven: Proven) -> None:
    def unhealed(run: Observed) -> Observed:
        """As if it had been healed long before it was: the incident counts as recovery."""
        injected = run.truth.injected_unix_nano
        assert injected is not None
        half = int(proven[0].broken[0].scenario.spec.timeline.recovery / 2 * 1e9)
        return replace(run, truth=run.truth.model_copy(update={"healed_unix_nano": injected - half}))

    verdict = _judge(proven, "heals", [replace(t, broken=unhealed(t.broken)) for t in proven[1] if t.broken])
    _stopped(verdict, "requests failed")


@pytest.mark.parametrize("word", ["network.partition", "network-partition", "chaosgym", "moment"])
def test_a_log_line_that_tells_is_a_leak(proven: Proven, word: str) -> None:
    def told(run: Observed) -> Observed:
        said = str((run.truth.injected_unix_nano or 0) // 1_000_000) if word == "moment" else word
        row = (run.episode.header.incident.start, run.incident.components[0], 9, "INFO", f"applying {said} now", None, None, "{}")
        episode = replace(run.episode)
        episode.__dict__["tables"] = {**run.episode.tables, "logs": table_from_rows("logs", [row])}
        return replace(run, episode=episode)

    assert _judge(proven, "leak-free").passed
    verdict = _judge(proven, "leak-free", [replace(t, broken=told(t.broken)) for t in proven[1] if t.broken])
    assert verdict.passed is False


def test_a_seed_that_breaks_something_else_the_second_time_is_not_repeatable(proven: Proven) -> None:
    other = proven[2].truth.model_copy(update={"chain": ("elsewhere",)})
    verdict = _judge(proven, "repeatable", again=replace(proven[2], truth=other))
    _stopped(verdict, "truth differs")


def test_too_many_spoiled_runs_are_not_repeatable(proven: Proven) -> None:
    verdict = _judge(proven, "repeatable", [replace(t, broken=None) for t in proven[1]])
    _stopped(verdict, "unscorable")


def test_a_scenario_that_a_shortcut_always_solves_is_too_easy(proven: Proven) -> None:
    def grepped(run: Observed) -> Observed:
        """What `grep` would say is made the truth."""
        from chaosgym.agents.shortcuts import GrepAgent

        answer = json.loads(GrepAgent().diagnose([run.incident])[0])
        cause = run.truth.causes[0].model_copy(update={k: answer["causes"][0][k] for k in ("component", "fault")})
        return replace(run, truth=run.truth.model_copy(update={"causes": (cause,)}))

    runs = broken_runs(proven[1])
    verdicts = judge_field({"network-partition": [grepped(run) for run in runs]})
    _stopped(verdicts[0], "grep")
    assert _verdict(verdicts, "shortcuts").passed is False
    assert _verdict(verdicts[1:], "un-hackable").passed
    assert _verdict(verdicts[1:], "leak-free").passed is None


def test_an_order_that_gives_the_culprit_away_is_a_leak(proven: Proven) -> None:
    def first(run: Observed) -> Observed:
        cause = run.truth.causes[0].model_copy(update={"component": min(run.incident.components)})
        return replace(run, truth=run.truth.model_copy(update={"causes": (cause,)}))

    verdicts = judge_field({"network-partition": [first(run) for run in broken_runs(proven[1])] * 15})
    assert _verdict(verdicts[1:], "leak-free").passed is False


def test_the_permutation_test_tells_a_shift_from_noise() -> None:
    rng = np.random.default_rng(3)
    before, after = rng.normal(0, 1, 40), rng.normal(1.5, 1, 40)
    assert shift_probability(before, after, up=True) < 0.01
    assert shift_probability(before, after, up=False) > 0.9
    assert shift_probability(before, np.array([]), up=True) == 1.0
    noise = [shift_probability(rng.normal(0, 1, 30), rng.normal(0, 1, 30), up=True) for _ in range(40)]
    assert sum(p < 0.05 for p in noise) <= 6
