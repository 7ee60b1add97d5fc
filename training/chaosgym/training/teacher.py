"""What a teacher answers about recorded incidents, and which of it is worth learning.

    sources ──> asked, each several times in other words ──> reward ──> answers.jsonl ──> the best that are good enough

Answers are written down as they come, so a run that was killed asks for the rest alone.
"""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chaosgym.agents import Agent
from chaosgym.diagnosis import Diagnosis, parse_diagnosis
from chaosgym.errors import InfrastructureError, InputError
from chaosgym.incident import Incident, render_incident
from chaosgym.rewards import score
from chaosgym.training.tasks import Source

__all__ = ["ANSWER_FILE", "Answer", "ask", "best_answers", "figures", "read_answers"]

ANSWER_FILE = "answers.jsonl"

_log = logging.getLogger(__name__)
_BATCH = 16
"""Answers asked for at a time, and lost at most when a run is killed."""
_BUDGET = 700
"""Tokens of report for an agent that does not say how many it wants."""


@dataclass(frozen=True)
class Answer:
    """One answer, and what it earned."""

    teacher: str
    """As the configuration names it."""
    episode: str
    """Id of the episode."""
    seed: int
    """Of the rendering that the teacher read: 0 when it was asked about the episode for the first time, and so on."""
    answer: str
    """With the real names of components."""
    reward: float
    terms: dict[str, float]
    """Each term of the reward before its weight."""


def ask(teacher: Agent, name: str, sources: Sequence[Source], each: int, path: Path) -> list[Answer]:
    """Let `teacher`, called `name`, answer all `sources` `each` times but for what stands in `path`; write the rest there.

    Returns what is known of these sources then, in the order asked. Raises InfrastructureError when nothing can be written.
    """
    known = {(a.episode, a.seed): a for a in read_answers(path) if a.teacher == name}
    wanted = [(source, seed) for seed in range(each) for source in sources]
    missing = [(source, seed) for source, seed in wanted if (source.id, seed) not in known]
    _mend(path)
    for at in range(0, len(missing), _BATCH):
        found = _answers(teacher, name, missing[at : at + _BATCH])
        _append(path, found)
        known.update({(answer.episode, answer.seed): answer for answer in found})
        if at // _BATCH % 10 == 9:
            _log.info("the teacher gave %d of %d answers", len(known), len(wanted))
    return [known[source.id, seed] for source, seed in wanted]


def _answers(teacher: Agent, name: str, asked: Sequence[tuple[Source, int]]) -> list[Answer]:
    budget = getattr(getattr(teacher, "format", None), "budget", _BUDGET)
    incidents = [render_incident(source.findings, source.id, seed, budget) for source, seed in asked]
    texts = teacher.diagnose(incidents)
    rows = zip(asked, incidents, texts, strict=True)
    return [_scored(name, source, seed, incident, text) for (source, seed), incident, text in rows]


def _scored(name: str, source: Source, seed: int, incident: Incident, text: str) -> Answer:
    result = score(text, source.truth, incident.components)
    return Answer(name, source.id, seed, text, result.total or 0.0, result.terms)


def read_answers(path: Path) -> Iterator[Answer]:
    """The answers in a file, none when there is no file. Raises InputError for a broken line but the last."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
    for number, line in enumerate(lines, 1):
        try:
            yield Answer(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}:{number}: no answer of a teacher ({error}); restore the file, or remove it to ask again") from error


def _mend(path: Path) -> None:
    """Cut off the end of a line that was not written whole."""
    if path.is_file() and not (text := path.read_bytes()).endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(text.rfind(b"\n") + 1)


def _append(path: Path, answers: Iterable[Answer]) -> None:
    block = "".join(json.dumps(asdict(answer), separators=(",", ":")) + "\n" for answer in answers)
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(block)
    except OSError as error:
        raise InfrastructureError(f"{path}: cannot be written ({error.strerror}); free some space and go on with --resume") from error


def best_answers(answers: Iterable[Answer], threshold: float, most: int) -> dict[str, tuple[Diagnosis, ...]]:
    """Episode id -> at most `most` different diagnoses of it that earned `threshold` or more, the best first."""
    good: defaultdict[str, dict[Any, Diagnosis]] = defaultdict(dict)
    for answer in sorted(answers, key=lambda a: -a.reward):  # stable: of equal ones the first asked for
        diagnosis = parse_diagnosis(answer.answer)
        if answer.reward >= threshold and diagnosis is not None:
            causes = tuple((cause.component, cause.fault) for cause in diagnosis.ranked())
            good[answer.episode].setdefault((diagnosis.verdict, causes), diagnosis)
    return {episode: tuple(found.values())[:most] for episode, found in good.items()}


def figures(answers: Sequence[Answer], sources: Sequence[Source], threshold: float, kept: Mapping[str, object]) -> dict[str, float]:
    """For metrics.jsonl: what the teacher earned, what share was good enough, of which fault types, and for how many episodes."""
    labels = {source.id: source.label for source in sources}
    asked = Counter(labels[answer.episode] for answer in answers)
    good = Counter(labels[answer.episode] for answer in answers if answer.reward >= threshold)
    found = {
        "teacher/answers": len(answers),
        "teacher/reward": sum(answer.reward for answer in answers) / len(answers),
        "teacher/accepted": good.total() / len(answers),
        "teacher/kept": len(kept) / len(sources),
        **{f"accepted/{label}": good[label] / count for label, count in sorted(asked.items())},
    }
    return {name: round(value, 4) for name, value in found.items()}
