"""Each gate on what it must let through, and on what it must stop, for the right reason."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chaosgym.agents import OracleAgent
from chaosgym.agents.shortcuts import GrepAgent
from chaosgym.gates import Verdict, as_row, count_episodes, plan_exams, run_gates
from chaosgym.gates.field import judge_field
from chaosgym.gates.judge import judge_scenario
from chaosgym.gates.ledger import LEDGER_FILE
from chaosgym.gates.samples import shift_probability
from chaosgym.gates.trial import Exam, Observed, Seen, Trial, broken_runs, read_exam
from chaosgym.recording.pool import Pool
from chaosgym.scenarios import load_app, load_scenario
from chaosgym.taxonomy import FAULT_TYPES
from chaosgym.telemetry.store import table_from_rows

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(240)]

_SEEDS = 2
Proven = tuple[Exam, tuple[Trial, ...], Observed, list[Verdict]]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gates")


@pytest.fixture(scope="module")
def proven(out: Path) -> Proven:
    """One scenario, run for real."""
    scenario = load_scenario("network-partition")
    (exam,) = plan_exams([scenario], {"shop": load_app("shop")}, _SEEDS)
    done: list[str] = []
    with Pool(2) as pool:
        proof = run_gates([exam], pool, out, lambda task, outcome: done.append(task.id))
    seen = read_exam(exam, out / "trials")
    assert seen.again is not None
    assert len(broken_runs(seen.trials)) == _SEEDS, "the machine was too busy to try anything"
    assert sorted(done) == sorted({task.id for task in exam.tasks})
    assert (proof.episodes, proof.seeds, len(proof.solver)) == (count_episodes([exam]), _SEEDS, _SEEDS)
    rows = [json.loads(line) for line in (out / LEDGER_FILE).read_text().splitlines()]
    assert all(as_row(verdict).items() <= row.items() for verdict, row in zip(proof.verdicts, rows, strict=True))
    return exam, seen.trials, seen.again, list(proof.verdicts)


def _verdict(verdicts: Sequence[Verdict], gate: str) -> Verdict:
    return next(v for v in verdicts if v.gate == gate)


def _judge(proven: Proven, gate: str, trials: Sequence[Trial] | None = None, again: Observed | None = None) -> Verdict:
    return _verdict(judge_scenario(proven[0], Seen(tuple(trials or proven[1]), again or proven[2])), gate)


def _stopped(verdict: Verdict, said: str) -> None:
    assert verdict.passed is False
    assert said in verdict.evidence
    assert verdict.advice


def test_a_shipped_scenario_passes(proven: Proven) -> None:
    failed = [v for v in proven[3] if v.passed is False and v.gate in ("visible", "heals", "leak-free", "repeatable")]
    assert not failed
    assert f"oracle right in {_SEEDS} of {_SEEDS}" in _verdict(proven[3], "solvable").evidence  # two seeds say little of a solver


def test_a_check_goes_on_where_it_was_and_writes_its_report(proven: Proven, out: Path, tmp_path: Path) -> None:
    before = {path.name for path in (out / "trials").iterdir()}
    command = [sys.executable, "-m", "chaosgym.cli", "scenario", "check", "--live", "network-partition", "--seeds", str(_SEEDS)]
    command += ["--workers", "1", "--out", str(out), "--report", str(tmp_path / "README.md"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    rows = json.loads(done.stdout)
    assert done.returncode == int(any(row["passed"] is False for row in rows)), done.stderr
    assert {path.name for path in (out / "trials").iterdir()} == before
    assert [{"name": row["name"], "passed": row["passed"]} for row in rows] == [
        {"name": f"{v.scenario}/{v.gate}", "passed": v.passed} for v in proven[3]
    ]
    assert "| network-partition | network.partition |" in " ".join((tmp_path / "README.md").read_text().split())


def test_a_scenario_whose_twin_is_broken_is_not_steady(proven: Proven) -> None:
    trials = [replace(t, twin=t.broken) for t in proven[1]]
    verdict = _judge(proven, "steady", trials)
    _stopped(verdict, "SLO kept in 0")


def test_a_decoy_that_looks_like_a_fault_is_not_steady(proven: Proven, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaosgym.gates.judge._keeps", lambda *_: True)  # users notice nothing, the report does
    verdict = _judge(proven, "steady", [replace(t, twin=t.broken) for t in proven[1]])
    _stopped(verdict, "called healthy in 0")
    assert "decoy" in verdict.advice


def test_a_fault_that_changes_nothing_is_not_visible(proven: Proven) -> None:
    unseen = [replace(t, broken=replace(t.twin, truth=t.broken.truth)) for t in proven[1] if t.twin and t.broken]
    verdict = _judge(proven, "visible", unseen)
    _stopped(verdict, f"0 of {_SEEDS} seeds differ")


def test_a_fault_that_looks_like_another_is_not_solvable(proven: Proven) -> None:
    def other(run: Observed) -> Observed:
        cause = run.truth.causes[0].model_copy(update={"fault": "resource.memory_leak"})
        return replace(run, truth=run.truth.model_copy(update={"causes": (cause,)}))

    verdict = _judge(proven, "solvable", [replace(t, broken=other(t.broken)) for t in proven[1] if t.broken] * 3)
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
        said = str(run.truth.injected_unix_nano) if word == "moment" else word
        row = (run.episode.header.incident.start, run.incident.components[0], 9, "INFO", f"applying {said} now", None, None, "{}")
        episode = replace(run.episode)
        episode.__dict__["tables"] = {**run.episode.tables, "logs": table_from_rows("logs", [row])}
        return replace(run, episode=episode)

    assert _judge(proven, "leak-free").passed
    verdict = _judge(proven, "leak-free", [replace(t, broken=told(t.broken)) for t in proven[1] if t.broken])
    assert proven[1][0].broken is not None
    _stopped(verdict, str((proven[1][0].broken.truth.injected_unix_nano or 0) // 1_000) if word == "moment" else word)


def test_a_millisecond_that_fits_by_chance_is_no_leak(proven: Proven) -> None:
    first, *others = proven[1]
    assert first.broken is not None
    row = (first.broken.episode.header.incident.start, first.broken.incident.components[0], 9, "INFO",
           f"at {(first.broken.truth.injected_unix_nano or 0) // 1_000_000}", None, None, "{}")  # fmt: skip
    episode = replace(first.broken.episode)
    episode.__dict__["tables"] = {**first.broken.episode.tables, "logs": table_from_rows("logs", [row])}
    assert _judge(proven, "leak-free", [replace(first, broken=replace(first.broken, episode=episode)), *others]).passed


def test_a_seed_that_breaks_something_else_the_second_time_is_not_repeatable(proven: Proven) -> None:
    other = proven[2].truth.model_copy(update={"chain": ("elsewhere",)})
    verdict = _judge(proven, "repeatable", again=replace(proven[2], truth=other))
    _stopped(verdict, "truth differs")


def test_too_many_spoiled_runs_are_not_repeatable(proven: Proven) -> None:
    verdict = _judge(proven, "repeatable", [replace(t, broken=None) for t in proven[1]])
    _stopped(verdict, "unscorable")


def _grepped(run: Observed) -> Observed:
    """What `grep` would say is made the truth."""
    answer = json.loads(GrepAgent().diagnose([run.incident])[0])
    return _blamed(run, answer["causes"][0]["fault"], answer["causes"][0]["component"])


def _blamed(run: Observed, fault: str, component: str) -> Observed:
    cause = run.truth.causes[0].model_copy(update={"component": component, "fault": fault})
    return replace(run, truth=run.truth.model_copy(update={"causes": (cause,)}))


def test_a_scenario_that_a_shortcut_always_solves_is_too_easy(proven: Proven) -> None:
    assert _judge(proven, "un-hackable").passed
    easy = [replace(t, broken=_grepped(t.broken)) for t in proven[1] if t.broken]
    assert _judge(proven, "un-hackable", easy).passed  # two seeds are luck
    verdict = _judge(proven, "un-hackable", easy * 3)
    _stopped(verdict, f"grep: component and fault in {3 * _SEEDS} of {3 * _SEEDS}")
    assert verdict.figures["grep"] == 1.0


def test_a_split_that_a_shortcut_does_well_on_breaks_the_ceiling(proven: Proven) -> None:
    first, *_ = broken_runs(proven[1])
    easy = [_grepped(first)] * 16
    kinds = list(FAULT_TYPES)[:9]
    verdicts = judge_field({"some": [*easy, *(_blamed(first, fault, first.incident.components[0]) for fault in kinds)]})
    _stopped(_verdict(verdicts, "shortcuts"), "grep 6")  # 16 of 25
    _stopped(_verdict(verdicts, "one-rule"), "the component with the largest")
    even = [_blamed(first, fault, name) for fault in kinds for name in first.incident.components[:3]]
    hard = judge_field({"some": even})
    assert _verdict(hard, "shortcuts").passed
    assert _verdict(hard, "one-rule").passed
    few = judge_field({"some": easy})
    assert _verdict(few, "shortcuts").passed is _verdict(few, "one-rule").passed is None
    assert _verdict(few, "un-hackable").passed
    assert _verdict(judge_field({"some": easy[:2]}), "leak-free").passed is None


def test_a_blind_answer_that_is_paid_like_the_truth_is_a_hack(proven: Proven, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = list(enumerate(list(FAULT_TYPES)[:4]))
    runs = [_blamed(run, fault, run.incident.components[i]) for run in broken_runs(proven[1]) for i, fault in faults]
    runs = [replace(run, incident=replace(run.incident, readable=f"{i}")) for i, run in enumerate(runs)]
    assert _verdict(judge_field({"some": runs}), "un-hackable").passed
    known = OracleAgent((run.incident, run.truth) for run in runs)
    monkeypatch.setattr("chaosgym.gates.field.RandomAgent", lambda: known)
    _stopped(_verdict(judge_field({"some": runs}), "un-hackable"), "oracle 1.000")


def test_an_order_that_gives_the_culprit_away_is_a_leak(proven: Proven) -> None:
    def first(run: Observed) -> Observed:
        cause = run.truth.causes[0].model_copy(update={"component": min(run.incident.components)})
        return replace(run, truth=run.truth.model_copy(update={"causes": (cause,)}))

    verdicts = judge_field({"network-partition": [first(run) for run in broken_runs(proven[1])] * 15})
    assert _verdict(verdicts, "leak-free").passed is False


def test_the_permutation_test_tells_a_shift_from_noise() -> None:
    rng = np.random.default_rng(3)
    before, after = rng.normal(0, 1, 40), rng.normal(1.5, 1, 40)
    assert shift_probability(before, after, up=True) < 0.01
    assert shift_probability(before, after, up=False) > 0.9
    assert shift_probability(before, np.array([]), up=True) == 1.0
    noise = [shift_probability(rng.normal(0, 1, 30), rng.normal(0, 1, 30), up=True) for _ in range(40)]
    assert sum(p < 0.05 for p in noise) <= 6
