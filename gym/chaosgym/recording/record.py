"""Record many episodes: parallel, resumable, each whole or not at all.

Which episodes a recording holds is a function of (scenarios, first seed, split, number), and an episode's
folder name of its scenario and seed, so that running the same command again makes only what is missing. For the same
reason the work can be shared out: `share` takes every Nth task, and N processes with one store make one recording.
"""

from __future__ import annotations

import math
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from chaosgym.app import App
from chaosgym.drawing import draw_plan
from chaosgym.episode import HEADER_FILE, TRUTH_FILE, read_header
from chaosgym.errors import InfrastructureError
from chaosgym.recording.failure import write_failure
from chaosgym.recording.pool import Pool, Recorded, episode_id
from chaosgym.recording.store import Store
from chaosgym.recording.timeline import UNSTEADY
from chaosgym.scenario import Scenario, Split
from chaosgym.truth import read_truth

__all__ = ["ATTEMPTS", "SPLIT_SEED", "Room", "Summary", "Task", "plan_tasks", "record", "share"]

STAGGER = 0.8
"""Seconds between the first episodes: sandboxes in step would all start, and all break, at the same moment."""
ATTEMPTS = 3
"""How often an episode is tried whose baseline is not steady: that is the machine's fault, not the fault's."""
_CALM = 6
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
    retried: int = 0
    """Runs that were thrown away because the machine was too busy for a steady baseline."""

    def add(self, outcome: Recorded, *, skipped: bool = False, attempts: int = 1) -> Summary:
        """With one more episode, recorded in the last of `attempts`."""
        return Summary(
            self.recorded + 1, self.unscorable + (outcome.status != "ok"), self.invisible + (outcome.visible is False),
            self.skipped + skipped, self.retried + attempts - 1,
        )


def plan_tasks(scenarios: Sequence[Scenario], apps: Mapping[str, App], episodes: int, seed: int, split: Split | None) -> list[Task]:
    """`episodes` tasks, the scenarios in turn, so that every class comes equally often.

    With `split`, episodes are marked as of that split instead of what their scenario says, with seeds of their own.
    """
    if split is not None:
        scenarios = [s.model_copy(update={"metadata": s.metadata.model_copy(update={"split": split})}) for s in scenarios]
    first = seed + (SPLIT_SEED if split == "seeds" else 0)
    return [Task(s, apps[s.spec.app], first + i) for i, s in ((i, scenarios[i % len(scenarios)]) for i in range(episodes))]


def share(tasks: Sequence[Task], index: int, of: int) -> list[Task]:
    """Every `of`-th task from number `index` on: the shares of all indexes are disjoint, and together they are all tasks."""
    return list(tasks[index::of])


def record(
    tasks: Sequence[Task],
    pool: Pool,
    out: Path,
    on_done: Callable[[Task, Recorded], None],
    minutes: float = math.inf,
    store: Store | None = None,
) -> Summary:
    """Record what is missing of `tasks`; `on_done` is called in this thread after each episode.

    After `minutes` no further episode is begun. One whose baseline was not steady is tried again, with fewer side by side.
    With `store` that is where episodes are missing and where they go, and `out` holds each only until it is there.

    Ctrl-C and errors leave whole episodes only. Raises InfrastructureError when an outcome cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    summary = Summary()
    missing: list[Task] = []
    stored = store.finished() if store else frozenset[str]()
    for task in tasks:
        if store and task.id in stored:
            outcome = _reread_stored(store, task, out)
        elif (out / task.id / HEADER_FILE).is_file():
            outcome = _reread(out / task.id)
            if store:  # of a run that ended before it was there
                outcome, _ = _hand_over(store, task, outcome)
        else:
            missing.append(task)
            continue
        summary = summary.add(outcome, skipped=True)
        on_done(task, outcome)
    for task, recorded, attempts in _run(missing, pool, out, time.monotonic() + 60 * minutes) if missing else ():
        outcome, ours = _hand_over(store, task, recorded) if store else (recorded, True)
        summary = summary.add(outcome, skipped=not ours, attempts=attempts)
        on_done(task, outcome)
    return summary


def _hand_over(store: Store, task: Task, outcome: Recorded) -> tuple[Recorded, bool]:
    """Move it into the store; where somebody else's is there already, that one counts."""
    ours = store.put(outcome.path)
    _throw_away(outcome.path)
    return (outcome, True) if ours else (_reread_stored(store, task, outcome.path.parent), False)


def _reread_stored(store: Store, task: Task, out: Path) -> Recorded:
    path = store.get(task.id, out, (TRUTH_FILE,))
    outcome = _reread(path)
    shutil.rmtree(path)
    return outcome


def _run(tasks: Sequence[Task], pool: Pool, out: Path, until: float) -> Iterator[tuple[Task, Recorded, int]]:
    """(task, outcome, attempts) as they end; none begins after `until` (monotonic seconds)."""
    executor = ThreadPoolExecutor(pool.size)
    todo = deque((task, 1) for task in tasks)
    waits = iter([STAGGER * number for number in range(pool.size)])
    running: dict[Future[Recorded], tuple[Task, int]] = {}
    room = Room(pool.size, pool.size)
    try:
        while running or (todo and time.monotonic() < until):
            while todo and len(running) < room.allowed and time.monotonic() < until:
                task, attempt = todo.popleft()
                running[executor.submit(_record_one, task, pool, out, next(waits, 0.0))] = task, attempt
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                (task, attempt), outcome = running.pop(future), future.result()
                overloaded = outcome.reason.startswith(UNSTEADY)
                room.heard(overloaded)
                if overloaded and attempt < ATTEMPTS:
                    _throw_away(outcome.path)
                    todo.append((task, attempt + 1))
                else:
                    yield task, outcome, attempt
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _throw_away(episode: Path) -> None:
    """Remove an episode, never half: what a kill leaves of it is what a killed writer leaves, too."""
    draft = episode.with_name(f".{episode.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    episode.rename(draft)
    shutil.rmtree(draft)


@dataclass
class Room:
    """How many sandboxes may be busy at once: one fewer after each sign of overload, one more after a calm while."""

    allowed: int
    most: int
    calm: int = 0
    """Episodes in a row without such a sign."""

    def heard(self, overloaded: bool) -> None:
        """An episode ended."""
        self.calm = 0 if overloaded else self.calm + 1
        if overloaded:
            self.allowed = max(1, self.allowed - 1)
        elif self.calm >= _CALM * self.allowed and self.allowed < self.most:
            self.allowed, self.calm = self.allowed + 1, 0


def _record_one(task: Task, pool: Pool, out: Path, wait_s: float = 0.0) -> Recorded:
    time.sleep(wait_s)
    try:
        return pool.record(task.scenario, task.app, task.seed, out)
    except InfrastructureError as error:  # its worker died or could not write: the episode is a datum all the same
        if (out / task.id / HEADER_FILE).is_file():
            return _reread(out / task.id)
        path = write_failure(draw_plan(task.app, task.scenario, task.seed), task.id, out, pool.choice.name, str(error))
        return Recorded(path, "unscorable", None, str(error))


def _reread(path: Path) -> Recorded:
    header = read_header(path)
    return Recorded(path, header.status, read_truth(path).visible, header.reason)
