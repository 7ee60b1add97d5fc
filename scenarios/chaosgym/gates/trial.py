"""Trials: a scenario with one seed, the same without its faults (its twin), and once more with the same seed; and sweeps of doses.

    scenario, app ──> exam ──> tasks ──> record ──> read_exam ──> Seen(trials, again, swept)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from chaosgym.app import App
from chaosgym.episode import Episode, read_episode
from chaosgym.gates.sweep import Sweep, plan_sweeps
from chaosgym.incident import Incident, compile_incident
from chaosgym.recording.record import Task
from chaosgym.scenario import Scenario
from chaosgym.truth import Truth, read_truth

__all__ = ["FIRST_SEED", "RECOVERY", "Exam", "Observed", "Seen", "Swept", "Trial", "broken_runs", "exam", "read_exam"]

FIRST_SEED = 2_000_000
"""Far from the seeds of any split, so that a gate never looks at an episode of a training."""
RECOVERY = 2.4
"""Seconds of traffic after healing for a scenario that does not say; its second half must keep the SLOs."""


@dataclass(frozen=True)
class Exam:
    """What has to be recorded for one scenario; a scenario without faults has no twins."""

    scenario: Scenario
    app: App
    broken: tuple[Task, ...]
    twins: tuple[Task, ...]
    again: Task
    """The first seed once more."""
    sweeps: tuple[Sweep, ...]

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Everything, each once: sweeps of several parameters share the dose in the middle."""
        doses = (dose.task for sweep in self.sweeps for dose in sweep.doses)
        return tuple({task.id: task for task in (*self.broken, *self.twins, self.again, *doses)}.values())


@dataclass(frozen=True)
class Observed:
    """A recorded episode with its truth and its report."""

    episode: Episode
    truth: Truth
    incident: Incident

    def without_tables(self) -> Observed:
        """The same with its telemetry still to be read: some hundred of them fit into memory."""
        return replace(self, episode=Episode(self.episode.path, self.episode.header))


@dataclass(frozen=True)
class Trial:
    """One seed; None for what the machinery spoiled."""

    seed: int
    broken: Observed | None
    twin: Observed | None


@dataclass(frozen=True)
class Swept:
    """What was seen at each dose of a sweep; None for what the machinery spoiled."""

    sweep: Sweep
    runs: tuple[Observed | None, ...]


@dataclass(frozen=True)
class Seen:
    """All that was recorded for one exam."""

    trials: tuple[Trial, ...]
    again: Observed | None
    swept: tuple[Swept, ...] = ()


def exam(scenario: Scenario, app: App, seeds: int) -> Exam:
    """Plan `seeds` trials of a scenario."""
    line = scenario.spec.timeline
    watched = _with(scenario, timeline=line.model_copy(update={"recovery": line.recovery or RECOVERY}))
    bare = _with(scenario, faults=(), parameters={})
    # What a scenario is called for people names its episodes, but draws nothing: the same exam under another name.
    repeated = watched.model_copy(update={"metadata": scenario.metadata.model_copy(update={"description": "once more"})})
    numbers = range(FIRST_SEED, FIRST_SEED + seeds)
    return Exam(
        scenario, app,
        broken=tuple(Task(watched, app, n) for n in numbers),
        twins=tuple(Task(bare, app, n) for n in numbers) if scenario.spec.faults else (),
        again=Task(repeated, app, FIRST_SEED),
        sweeps=plan_sweeps(scenario, app, FIRST_SEED),
    )  # fmt: skip


def _with(scenario: Scenario, **changes: object) -> Scenario:
    return scenario.model_copy(update={"spec": scenario.spec.model_copy(update=changes)})


def read_exam(exam: Exam, out: Path) -> Seen:
    """Read what was recorded under `out`. Raises InputError when an episode is missing or broken."""
    twins = exam.twins or (None,) * len(exam.broken)
    return Seen(
        trials=tuple(
            Trial(broken.seed, _observe(out / broken.id), _observe(out / twin.id) if twin else None)
            for broken, twin in zip(exam.broken, twins, strict=True)
        ),
        again=_observe(out / exam.again.id),
        swept=tuple(Swept(sweep, tuple(_observe(out / dose.task.id) for dose in sweep.doses)) for sweep in exam.sweeps),
    )


def _observe(path: Path) -> Observed | None:
    """One recorded episode, None when it is unscorable."""
    episode = read_episode(path)
    if episode.header.status != "ok":
        return None
    return Observed(episode, read_truth(path), compile_incident(episode, seed=0))


def broken_runs(trials: Sequence[Trial]) -> list[Observed]:
    """The broken episodes that went through."""
    return [trial.broken for trial in trials if trial.broken is not None]
