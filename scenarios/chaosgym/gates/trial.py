"""Trials: a scenario with one seed, the same without its faults (its twin), and once more with the same seed.

    scenario, app ──> exam ──> tasks ──> record ──> read_trial ──> Trial(broken, twin, again)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chaosgym.app import App
from chaosgym.episode import Episode, read_episode
from chaosgym.incident import Incident, compile_incident
from chaosgym.recording.record import Task
from chaosgym.scenario import Scenario
from chaosgym.truth import Truth, read_truth

__all__ = ["FIRST_SEED", "RECOVERY", "Exam", "Observed", "Trial", "broken_runs", "exam", "observe", "read_trial"]

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
    again: tuple[Task, ...]
    """The first seed once more, into a folder of its own: its episode has the same name."""


@dataclass(frozen=True)
class Observed:
    """A recorded episode with its truth and its report."""

    episode: Episode
    truth: Truth
    incident: Incident


@dataclass(frozen=True)
class Trial:
    """One seed; None for what the machinery spoiled."""

    seed: int
    broken: Observed | None
    twin: Observed | None


def exam(scenario: Scenario, app: App, seeds: int) -> Exam:
    """Plan `seeds` trials of a scenario."""
    line = scenario.spec.timeline
    watched = _with(scenario, timeline=line.model_copy(update={"recovery": line.recovery or RECOVERY}))
    bare = _with(scenario, faults=(), parameters={})
    numbers = range(FIRST_SEED, FIRST_SEED + seeds)
    return Exam(
        scenario, app,
        broken=tuple(Task(watched, app, n) for n in numbers),
        twins=tuple(Task(bare, app, n) for n in numbers) if scenario.spec.faults else (),
        again=(Task(watched, app, FIRST_SEED),),
    )  # fmt: skip


def _with(scenario: Scenario, **changes: object) -> Scenario:
    return scenario.model_copy(update={"spec": scenario.spec.model_copy(update=changes)})


def read_trial(broken: Task, twin: Task | None, out: Path) -> Trial:
    """Read what was recorded of one seed. Raises InputError when an episode is missing or broken."""
    return Trial(broken.seed, observe(out / broken.id), observe(out / twin.id) if twin else None)


def observe(path: Path) -> Observed | None:
    """One recorded episode, None when it is unscorable. Raises InputError when it is missing or broken."""
    episode = read_episode(path)
    if episode.header.status != "ok":
        return None
    return Observed(episode, read_truth(path), compile_incident(episode, seed=0))


def broken_runs(trials: Sequence[Trial]) -> list[Observed]:
    """The broken episodes that went through."""
    return [trial.broken for trial in trials if trial.broken is not None]
