"""Record the trials of scenarios and put every gate to them; what is recorded already is kept.

    exams ──> tasks ──> record ──> a scenario is judged as soon as its last episode is there ──> Proof
                                   └─> verdicts.jsonl
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chaosgym.agents import RulesAgent
from chaosgym.app import App
from chaosgym.evaluation.row import Row
from chaosgym.gates.field import judge_field
from chaosgym.gates.judge import answer_rows, judge_scenario
from chaosgym.gates.ledger import note
from chaosgym.gates.trial import Exam, Observed, broken_runs, exam, read_exam
from chaosgym.gates.verdict import Verdict
from chaosgym.recording.pool import Pool, Recorded
from chaosgym.recording.record import Task, record
from chaosgym.scenario import Scenario

__all__ = ["Proof", "count_episodes", "plan_exams", "run_gates"]


@dataclass(frozen=True)
class Proof:
    """What came of a check."""

    scenarios: tuple[Scenario, ...]
    verdicts: tuple[Verdict, ...]
    """Scenario by scenario, those of all together (`*`) last."""
    solver: tuple[Row, ...]
    """What the informed solver said of every run as written."""
    seeds: int
    episodes: int
    unscorable: int


def plan_exams(scenarios: Sequence[Scenario], apps: Mapping[str, App], seeds: int) -> list[Exam]:
    """What has to be recorded for `scenarios`."""
    return [exam(scenario, apps[scenario.spec.app], seeds) for scenario in scenarios]


def count_episodes(exams: Sequence[Exam]) -> int:
    """How many episodes that is."""
    return len(_tasks(exams))


def _tasks(exams: Sequence[Exam]) -> dict[str, Task]:
    """By id, scenario after scenario, so that the first verdicts come early."""
    return {task.id: task for each in exams for task in each.tasks}


def run_gates(exams: Sequence[Exam], pool: Pool, out: Path, on_done: Callable[[Task, Recorded], None]) -> Proof:
    """Record what is missing under `out` and judge; `on_done` is called after each episode.

    Verdicts stand in `out/verdicts.jsonl` as soon as they are known. Raises InputError when what was recorded
    before is broken, InfrastructureError when an outcome cannot be written.
    """
    tasks, bench = _tasks(exams), _Bench(exams, out)
    outcomes: list[Recorded] = []

    def recorded(task: Task, outcome: Recorded) -> None:
        outcomes.append(outcome)
        on_done(task, outcome)
        bench.hear(task)

    record(list(tasks.values()), pool, bench.trials, recorded)
    return Proof(
        scenarios=tuple(each.scenario for each in exams),
        verdicts=bench.close(),
        solver=tuple(answer_rows(RulesAgent(), [run for of in bench.runs.values() for run in of])),
        seeds=bench.seeds,
        episodes=len(outcomes),
        unscorable=sum(outcome.status != "ok" for outcome in outcomes),
    )


class _Bench:
    """Judges each exam when the last of its episodes is there."""

    def __init__(self, exams: Sequence[Exam], out: Path) -> None:
        self.trials = out / "trials"
        self.runs: dict[str, list[Observed]] = {each.scenario.metadata.name: [] for each in exams}
        """The broken runs by scenario."""
        self.seeds = max((len(each.broken) for each in exams), default=0)
        self._out = out
        self._left = [{task.id for task in each.tasks} for each in exams]
        self._owners: defaultdict[str, list[int]] = defaultdict(list)
        for number, of in enumerate(self._left):
            for identity in of:
                self._owners[identity].append(number)
        self._exams = exams
        self._verdicts: dict[int, list[Verdict]] = {}

    def hear(self, task: Task) -> None:
        """One episode more."""
        for number in self._owners[task.id]:
            self._left[number].discard(task.id)
            if not self._left[number]:
                self._judge(number)

    def _judge(self, number: int) -> None:
        each = self._exams[number]
        seen = read_exam(each, self.trials)
        self._verdicts[number] = judge_scenario(each, seen)
        self.runs[each.scenario.metadata.name] += [run.without_tables() for run in broken_runs(seen.trials)]
        note(self._out, self._verdicts[number], len(each.broken))

    def close(self) -> tuple[Verdict, ...]:
        """All verdicts, with those that need every scenario."""
        field = judge_field(self.runs)
        note(self._out, field, self.seeds)
        return (*(verdict for number in sorted(self._verdicts) for verdict in self._verdicts[number]), *field)
