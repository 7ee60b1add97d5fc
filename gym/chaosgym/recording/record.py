"""Record many episodes: parallel, resumable, each whole or not at all.

Which episodes a recording holds is a function of (scenarios, first seed, split, number), and an episode's
folder name of its scenario and seed, so that running the same command again makes only what is missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from chaosgym.app import App
from chaosgym.drawing import draw_plan
from chaosgym.episode import HEADER_FILE, read_header
from chaosgym.errors import InfrastructureError
from chaosgym.recording.failure import write_failure
from chaosgym.recording.pool import LocalPool, Recorded, episode_id
from chaosgym.scenario import Scenario, Split
from chaosgym.truth import read_truth

__all__ = ["SPLIT_SEED", "Summary", "Task", "plan_tasks", "record"]

STAGGER = 0.8
"""Seconds between the first episodes: sandboxes in step would all start, and all break, at the same moment."""
SPLIT_SEED = 1_000_000
"""Where the seeds of recordings of the split `seeds` begin, far from those of `train`."""


@dataclass(frozen=True)
class Task:
    """One episode to record."""

    scenario: Scenario
    app: App
    seed: int

    @property
    def id(self) -> str:
        """The name of its folder."""
        return episode_id(self.scenario, self.app, self.seed)


@dataclass(frozen=True)
class Summary:
    """Counts of a recording."""

    recorded: int = 0
    unscorable: int = 0
    invisible: int = 0
    skipped: int = 0
    """Of `recorded`: those that were there before."""

    def add(self, outcome: Recorded, *, skipped: bool = False) -> Summary:
        """With one more episode."""
        return Summary(
            self.recorded + 1, self.unscorable + (outcome.status != "ok"), self.invisible + (outcome.visible is False),
            self.skipped + skipped,
        )


def plan_tasks(scenarios: Sequence[Scenario], apps: Mapping[str, App], episodes: int, seed: int, split: Split | None) -> list[Task]:
    """`episodes` tasks, the scenarios in turn, so that every class comes equally often.

    With `split`, episodes are marked as of that split instead of what their scenario says, with seeds of their own.
    """
    if split is not None:
        scenarios = [s.model_copy(update={"metadata": s.metadata.model_copy(update={"split": split})}) for s in scenarios]
    first = seed + (SPLIT_SEED if split == "seeds" else 0)
    return [Task(s, apps[s.spec.app], first + i) for i, s in ((i, scenarios[i % len(scenarios)]) for i in range(episodes))]


def record(
    tasks: Sequence[Task], pool: LocalPool, out: Path, on_done: Callable[[Task, Recorded], None], summary: Summary | None = None
) -> Summary:
    """Record what is missing of `tasks`; `on_done` is called in this thread after each episode.

    Ctrl-C and errors leave whole episodes only. Raises InfrastructureError when an outcome cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    summary = summary or Summary()
    missing: list[Task] = []
    for task in tasks:
        if (out / task.id / HEADER_FILE).is_file():
            outcome = _reread(out / task.id)
            summary = summary.add(outcome, skipped=True)
            on_done(task, outcome)
        else:
            missing.append(task)
    for task, outcome in _run(missing, pool, out):
        summary = summary.add(outcome)
        on_done(task, outcome)
    return summary


def _run(tasks: Sequence[Task], pool: LocalPool, out: Path) -> Iterator[tuple[Task, Recorded]]:
    executor = ThreadPoolExecutor(pool.size)
    todo = iter(tasks)
    running: dict[Future[Recorded], Task] = {
        executor.submit(_record_one, task, pool, out, STAGGER * number): task for number, task in enumerate(islice(todo, pool.size))
    }
    try:
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                task = running.pop(future)
                if (following := next(todo, None)) is not None:
                    running[executor.submit(_record_one, following, pool, out)] = following
                yield task, future.result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _record_one(task: Task, pool: LocalPool, out: Path, wait_s: float = 0.0) -> Recorded:
    time.sleep(wait_s)
    try:
        return pool.record(task.scenario, task.app, task.seed, out)
    except InfrastructureError as error:  # its worker died or could not write: the episode is a datum all the same
        if (out / task.id / HEADER_FILE).is_file():
            return _reread(out / task.id)
        path = write_failure(draw_plan(task.app, task.scenario, task.seed), task.id, out, str(error))
        return Recorded(path, "unscorable", None, str(error))


def _reread(path: Path) -> Recorded:
    header = read_header(path)
    return Recorded(path, header.status, read_truth(path).visible, header.reason)
