"""A Task: one incident as a model is asked about it, with what only the trainer knows.

    episode folders ──> sources (findings and truth, read once) ──> tasks (drawn by seed: handles, order of rows)

One recorded episode gives any number of tasks, since each seed says the same in other words. Fault types are drawn
alike often, whatever was recorded, so that a constant answer does not pay, and "healthy" about one time in ten.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from chaosgym.agents.prompt import PromptFormat
from chaosgym.diagnosis import Cause, Diagnosis
from chaosgym.episode import list_episodes, read_episode
from chaosgym.errors import InputError
from chaosgym.incident import Findings, Incident, analyse, render_incident
from chaosgym.incident.answer import answer_text
from chaosgym.taxonomy import HEALTHY
from chaosgym.truth import Truth, read_truth

__all__ = ["Source", "Task", "draw_tasks", "in_turn", "in_words", "label_of", "make_task", "read_held_out", "read_source",
           "read_sources", "right_answer"]

SPLIT = "train"
_BROKEN_PER_HEALTHY = 9
"""Of seventy labels healthy would be too rare to be learnt, and every calm minute a false alarm."""


@dataclass(frozen=True)
class Source:
    """What is known of one recorded episode."""

    id: str
    findings: Findings
    truth: Truth

    @property
    def label(self) -> str:
        """The fault type, or healthy."""
        return label_of(self.truth)


@dataclass(frozen=True)
class Task:
    """One incident, asked once."""

    source: Source
    seed: int
    incident: Incident
    messages: list[dict[str, str]]
    """The conversation that the model continues."""


def label_of(truth: Truth) -> str:
    """The type of the first fault, or healthy."""
    return truth.causes[0].fault if truth.causes else HEALTHY


def read_sources(folders: Iterable[Path]) -> list[Source]:
    """Read all episodes that may be trained on: scorable, visible, of split train.

    Raises InputError when none is left, with the reasons, and for a broken episode.
    """
    found: list[Source] = []
    left_out: Counter[str] = Counter()
    folders = list(folders)
    for path in (path for folder in folders for path in list_episodes(folder)):
        source = read_source(path)
        if isinstance(source, str):
            left_out[source] += 1
        else:
            found.append(source)
    if not found:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "no episodes there"
        raise InputError(f"{', '.join(map(str, folders))}: nothing to train on ({reasons}); record some with `chaosgym record`")
    return found


def read_source(path: Path) -> Source | str:
    """Read one episode, or say why it may not be trained on. Raises InputError where it is broken."""
    episode = read_episode(path)
    truth = read_truth(path)
    return _reason_against(episode.header.status, truth) or Source(episode.header.id, analyse(episode), truth)


def read_held_out(folders: Iterable[Path]) -> list[Source]:
    """Read all scorable, visible episodes of other splits than train, to look at. Raises InputError for a broken episode."""
    paths = [path for folder in folders for path in list_episodes(folder)]
    known = [(read_episode(path), read_truth(path)) for path in paths]
    wanted = [(e, t) for e, t in known if e.header.status == "ok" and t.visible is not False and t.split != SPLIT]
    return [Source(episode.header.id, analyse(episode), truth) for episode, truth in wanted]


def _reason_against(status: str, truth: Truth) -> str:
    if status != "ok":
        return "unscorable"
    if truth.visible is False:
        return "invisible"
    return "" if truth.split == SPLIT else f"of split {truth.split}"


def make_task(source: Source, seed: int, form: PromptFormat) -> Task:
    """Render `source` with `seed`; about a millisecond."""
    incident = render_incident(source.findings, source.id, seed, form.budget)
    return Task(source, seed, incident, form.messages(incident))


def draw_tasks(
    sources: Sequence[Source], count: int, seed: int, form: PromptFormat
) -> Iterator[Task]:
    """Draw `count` tasks, labels as `in_turn` has them; within a label all episodes."""
    rng = random.Random(f"tasks {seed}")
    by_label: dict[str, list[Source]] = {}
    for source in sources:
        by_label.setdefault(source.label, []).append(source)
    labels: list[str] = []
    for number in range(count):
        labels = labels or rng.sample(turn := in_turn(by_label), len(turn))
        yield make_task(rng.choices(by_label[labels.pop()])[0], seed * 1_000_003 + number, form)


def in_turn(labels: Iterable[str]) -> list[str]:
    """Each label once, sorted; healthy as often as it takes to be one in ten, once at least."""
    found = sorted(labels)
    again = round((len(found) - 1) / _BROKEN_PER_HEALTHY) - 1 if HEALTHY in found else 0
    return found + [HEALTHY] * again


def right_answer(task: Task, form: PromptFormat, confidence: float) -> str:
    """The answer that the truth calls for, in the words of the report: handles for a compact one, names else."""
    truth = task.source.truth
    causes = tuple(Cause(component=c.component, fault=c.fault, probability=confidence) for c in truth.causes)
    return in_words(Diagnosis(verdict=truth.verdict, causes=causes), task, form)


def in_words(diagnosis: Diagnosis, task: Task, form: PromptFormat) -> str:
    """`diagnosis` as a model of that form answers `task`; one of compact reports has room for causes, not for evidence."""
    if form.rendering == "readable":
        return diagnosis.to_json()
    return answer_text(diagnosis.model_copy(update={"evidence": ()}), task.incident.handles)
