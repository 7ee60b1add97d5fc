"""Is a fault the same fault on another sandbox? The same plans are run on each, and what came of them is compared.

    scenarios x seeds ──> record on each sandbox, on the first one twice ──> runs ──> Equivalence ──> tables

The first sandbox is the reference. How far its two runs of one plan are apart is chance: timing, the machine, the order
in which requests come. Another sandbox differs where it is farther from the reference than that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from chaosgym.app import App
from chaosgym.episode import HEADER_FILE, read_episode
from chaosgym.errors import InputError
from chaosgym.evaluation.likeness import Cells, distance, one_sided, overlap, report_cells
from chaosgym.evaluation.row import Row
from chaosgym.evaluation.run import Case, answer_cases, make_rail
from chaosgym.faults import all_faults
from chaosgym.incident import compile_incident
from chaosgym.recording.pool import Pool, Recorded
from chaosgym.recording.record import Task, record
from chaosgym.sandbox.choice import SandboxChoice
from chaosgym.scenario import Scenario
from chaosgym.scenarios import runs_on
from chaosgym.taxonomy import HEALTHY
from chaosgym.truth import Truth, read_truth

__all__ = ["AGENTS", "FIRST_SEED", "Equivalence", "Exercise", "FaultPair", "Run", "Series", "plan_exercise", "run_exercise"]

FIRST_SEED = 3_000_000
"""Far from the seeds of any split and of the gates."""
AGENTS = ("oracle", "rules", "most-errors", "null")
"""Who answers on each sandbox; `rules` is the informed solver."""
_BLOCK = 4
"""Scenarios that are recorded on one sandbox before the next one's turn, so that a busy hour of the machine hits all alike."""
_FAR = 0.5
"""Difference of the shares of runs in which a fault is seen from which on it is called one."""
Key = tuple[str, int]
"""(scenario, seed)."""


@dataclass(frozen=True)
class Exercise:
    """What has to be recorded, and where."""

    choices: tuple[SandboxChoice, ...]
    """The reference first."""
    tasks: Mapping[str, tuple[Task, ...]]
    """By name of the sandbox."""
    again: tuple[Task, ...]
    """The same plans once more, on the reference."""
    elsewhere: Mapping[str, tuple[str, ...]]
    """By scenario that does not run on every one of them: those that it runs on."""

    @property
    def episodes(self) -> int:
        """How many that is."""
        return len(self.again) + sum(len(tasks) for tasks in self.tasks.values())


@dataclass(frozen=True)
class Run:
    """One plan on one sandbox."""

    key: Key
    fault: str
    """Labels of the true causes, or `healthy`."""
    truth: Truth
    scorable: bool
    components: int = 0
    cells: Cells = field(default_factory=dict[tuple[str, str], frozenset[str]])

    @property
    def symptoms(self) -> tuple[str, ...]:
        """The declared ones that were seen."""
        return self.truth.symptoms_seen


@dataclass(frozen=True)
class Series:
    """All runs of one sandbox."""

    name: str
    runs: Mapping[Key, Run]
    rows: Mapping[str, Mapping[Key, Row]]
    """By agent: the answers to what may be scored."""

    @property
    def scorable(self) -> dict[Key, Run]:
        """Those that went through."""
        return {key: run for key, run in self.runs.items() if run.scorable}

    def faults(self) -> tuple[frozenset[str], frozenset[str]]:
        """(types that were seen at work, types that were tried), each where it was the only cause."""
        alone = {key: run.fault for key, run in self.runs.items() if len(run.truth.causes) == 1}
        seen = {fault for key, fault in alone.items() if self.runs[key].scorable and self.runs[key].truth.visible is not False}
        return frozenset(seen), frozenset(alone.values())


@dataclass(frozen=True)
class FaultPair:
    """One fault on two sandboxes, the reference first; all of its runs there count, those made again too."""

    fault: str
    scenarios: tuple[str, ...]
    runs: tuple[int, int]
    scorable: tuple[int, int]
    visible: tuple[float | None, float | None]
    """Share of the scorable runs in which a declared symptom was seen; None when nothing was broken."""
    symptoms: tuple[tuple[str, ...], tuple[str, ...]]
    """Those seen in any run."""
    alike: float | None
    """Mean overlap of the symptoms of the two, plan by plan; None without a plan that went through on both."""
    alike_chance: float | None
    """The same of two runs on the reference."""
    distance: float | None
    """Mean distance of the reports, likewise."""
    distance_chance: float | None
    only: tuple[tuple[str, ...], tuple[str, ...]]
    """Symptoms that every run on the one shows, and none on the other."""
    declared: str
    """Why it differs, as the fault says; empty when it does not."""

    @property
    def differs(self) -> bool:
        """More than chance does: symptoms that only the one has, or seen on the one and mostly not on the other."""
        seen = [share for share in self.visible if share is not None]
        return any(self.only) or (len(seen) == 2 and abs(seen[0] - seen[1]) >= _FAR and min(self.scorable) > 1)


@dataclass(frozen=True)
class Equivalence:
    """What came of an exercise."""

    series: tuple[Series, ...]
    """The reference first."""
    again: Series
    elsewhere: Mapping[str, tuple[str, ...]]
    seeds: int

    @property
    def reference(self) -> Series:
        """What the others are held against."""
        return self.series[0]

    def shared(self, other: Series) -> list[tuple[Run, Run, Run]]:
        """(on the reference, the same again, on the other) of every plan that went through all three times."""
        first, again, there = self.reference.scorable, self.again.scorable, other.scorable
        return [(first[key], again[key], there[key]) for key in sorted(first.keys() & again.keys() & there.keys())]

    def fault_pairs(self, other: Series) -> list[FaultPair]:
        """Fault by fault, `healthy` last."""
        found = {run.fault for run in (*self.reference.runs.values(), *other.runs.values())}
        return [self._fault_pair(fault, other) for fault in sorted(found, key=lambda fault: (fault == HEALTHY, fault))]

    def _fault_pair(self, fault: str, other: Series) -> FaultPair:
        both = ((self.reference, self.again), (other,))
        a, b = ([run for series in every for run in series.runs.values() if run.fault == fault] for every in both)
        went = [[run for run in runs if run.scorable] for runs in (a, b)]
        triples = [triple for triple in self.shared(other) if triple[0].fault == fault]
        healthy = fault == HEALTHY
        return FaultPair(
            fault=fault,
            scenarios=tuple(sorted({run.key[0] for run in (*a, *b)})),
            runs=(len(a), len(b)),
            scorable=(len(went[0]), len(went[1])),
            visible=(None, None) if healthy else (_seen(went[0]), _seen(went[1])),
            symptoms=(_any(went[0]), _any(went[1])),
            alike=_mean([overlap(x.symptoms, z.symptoms) for x, _, z in triples]),
            alike_chance=_mean([overlap(x.symptoms, y.symptoms) for x, y, _ in triples]),
            distance=_mean([distance(x.cells, z.cells) for x, _, z in triples]),
            distance_chance=_mean([distance(x.cells, y.cells) for x, y, _ in triples]),
            only=one_sided([run.symptoms for run in went[0]], [run.symptoms for run in went[1]]),
            declared=_declared(fault, {self.reference.name, other.name}),
        )


def _seen(runs: Sequence[Run]) -> float | None:
    return _mean([float(run.truth.visible is not False) for run in runs])


def _any(runs: Sequence[Run]) -> tuple[str, ...]:
    return tuple(sorted({symptom for run in runs for symptom in run.symptoms}))


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _declared(fault: str, sandboxes: Collection[str]) -> str:
    known = all_faults()
    reasons = (known[label].differs.get(name) for label in fault.split(" + ") if label in known for name in sorted(sandboxes))
    return "; ".join(reason for reason in reasons if reason)


def plan_exercise(scenarios: Sequence[Scenario], apps: Mapping[str, App], choices: Sequence[SandboxChoice], seeds: int) -> Exercise:
    """The same plans for every sandbox that can do them. Raises InputError when two of them have none in common."""
    names = [choice.name for choice in choices]
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise InputError(f"sandboxes {', '.join(names)}: give two or more different ones to compare, as in local,docker")
    able = {scenario.metadata.name: tuple(name for name in names if name in runs_on(scenario)) for scenario in scenarios}
    tasks = {
        name: tuple(Task(s, apps[s.spec.app], n) for s in scenarios if name in able[s.metadata.name] for n in _numbers(seeds))
        for name in names
    }
    for name in names[1:]:
        if not {task.id for task in tasks[name]} & {task.id for task in tasks[names[0]]}:
            raise InputError(f"none of these scenarios runs on {names[0]} and on {name}; `chaosgym scenario list` names others")
    again = tuple(Task(_renamed(task.scenario), task.app, task.seed) for task in tasks[names[0]])
    return Exercise(tuple(choices), tasks, again, {scenario: on for scenario, on in able.items() if len(on) < len(names)})


def _numbers(seeds: int) -> range:
    return range(FIRST_SEED, FIRST_SEED + seeds)


def _renamed(scenario: Scenario) -> Scenario:
    """What a scenario is called for people names its episodes, but draws nothing: the same plan under another name."""
    return scenario.model_copy(update={"metadata": scenario.metadata.model_copy(update={"description": "once more"})})


def run_exercise(exercise: Exercise, out: Path, workers: int, on_done: Callable[[Task, Recorded], None]) -> Equivalence:
    """Record what is missing under `out/SANDBOX` and compare; `on_done` is called after each episode.

    Raises InfrastructureError when an outcome cannot be written, PrerequisiteError when a sandbox cannot be had.
    """
    reference = exercise.choices[0].name
    pools = {choice.name: Pool(workers, choice) for choice in exercise.choices}
    ready: set[str] = set()
    with ExitStack() as stack:
        for name, tasks in _turns(exercise):
            if name not in ready and any(not (out / name / task.id / HEADER_FILE).is_file() for task in tasks):
                stack.enter_context(pools[name])
                ready.add(name)
            record(tasks, pools[name], out / name, on_done)
    series = tuple(_read(choice.name, exercise.tasks[choice.name], out / choice.name) for choice in exercise.choices)
    return Equivalence(series, _read(reference, exercise.again, out / reference), exercise.elsewhere, len({t.seed for t in exercise.again}))


def _turns(exercise: Exercise) -> Iterator[tuple[str, list[Task]]]:
    """(sandbox, tasks) by turns, some scenarios at a time."""
    reference = exercise.choices[0].name
    every = {name: [*tasks, *(exercise.again if name == reference else ())] for name, tasks in exercise.tasks.items()}
    scenarios = list(dict.fromkeys(task.scenario.metadata.name for tasks in every.values() for task in tasks))
    for at in range(0, len(scenarios), _BLOCK):
        block = scenarios[at : at + _BLOCK]
        for name, tasks in every.items():
            if chosen := [task for task in tasks if task.scenario.metadata.name in block]:
                yield name, chosen


def _read(name: str, tasks: Sequence[Task], folder: Path) -> Series:
    runs: dict[Key, Run] = {}
    cases: dict[Key, Case] = {}
    for task in tasks:
        key = (task.scenario.metadata.name, task.seed)
        episode, truth = read_episode(folder / task.id), read_truth(folder / task.id)
        label = " + ".join(dict.fromkeys(cause.fault for cause in truth.causes)) or HEALTHY
        if episode.header.status != "ok":
            runs[key] = Run(key, label, truth, False)
            continue
        incident = compile_incident(episode, seed=0)
        runs[key] = Run(key, label, truth, True, len(incident.components), report_cells(incident.findings.rows))
        if truth.visible is not False:
            cases[key] = Case(episode, incident, truth)
    return Series(name, runs, _answers(cases))


def _answers(cases: Mapping[Key, Case]) -> dict[str, dict[Key, Row]]:
    every = list(cases.values())
    return {agent: dict(zip(cases, answer_cases(make_rail(agent, every, every, 0), every), strict=True)) for agent in AGENTS}
