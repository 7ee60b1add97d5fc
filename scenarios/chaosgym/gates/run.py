"""Record the trials of scenarios and put every gate to them; what is recorded already is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from chaosgym.app import App
from chaosgym.gates.field import judge_field
from chaosgym.gates.judge import judge_scenario
from chaosgym.gates.trial import Exam, Observed, broken_runs, exam, observe, read_trial
from chaosgym.gates.verdict import Verdict
from chaosgym.recording.pool import LocalPool, Recorded
from chaosgym.recording.record import Task, record
from chaosgym.scenario import Scenario

__all__ = ["count_episodes", "plan_exams", "run_gates"]


def plan_exams(scenarios: Sequence[Scenario], apps: Mapping[str, App], seeds: int) -> list[Exam]:
    """What has to be recorded for `scenarios`."""
    return [exam(scenario, apps[scenario.spec.app], seeds) for scenario in scenarios]


def count_episodes(exams: Sequence[Exam]) -> int:
    """How many episodes that is."""
    return sum(len(e.broken) + len(e.twins) + len(e.again) for e in exams)


def run_gates(exams: Sequence[Exam], pool: LocalPool, out: Path, on_done: Callable[[Task, Recorded], None]) -> list[Verdict]:
    """Record what is missing under `out`, then judge. `on_done` is called after each episode.

    Raises InputError when what was recorded before is broken, InfrastructureError when an outcome cannot be written.
    """
    trials, repeats = out / "trials", out / "again"
    record([task for e in exams for task in (*e.broken, *e.twins)], pool, trials, on_done)
    record([task for e in exams for task in e.again], pool, repeats, on_done)
    verdicts: list[Verdict] = []
    runs: dict[str, list[Observed]] = {}
    for each in exams:
        twins = each.twins or (None,) * len(each.broken)
        seen = [read_trial(broken, twin, trials) for broken, twin in zip(each.broken, twins, strict=True)]
        verdicts += judge_scenario(each, seen, observe(repeats / each.again[0].id))
        runs[each.scenario.metadata.name] = broken_runs(seen)
    return [*verdicts, *judge_field(runs)]
