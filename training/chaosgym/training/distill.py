"""`chaosgym train distill`: learn to answer as a teacher does.

    reject   any agent ──> its answers ──> those that the reward accepts ──> SFT         (teacher.py)
    logits   the student's own answers ──> how likely either finds each token ──> closer (divergence.py)
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from chaosgym.agents import make_agent
from chaosgym.agents.prompt import PromptFormat
from chaosgym.diagnosis import Diagnosis
from chaosgym.errors import InputError
from chaosgym.training import processes, supervised
from chaosgym.training.config import NANO, DistillConfig
from chaosgym.training.divergence import refuse_strangers, train_on_logits
from chaosgym.training.nano import load_model, prompt_format
from chaosgym.training.pretrain import new_model
from chaosgym.training.run import Run, open_run
from chaosgym.training.tasks import Source, draw_tasks, in_words, read_sources
from chaosgym.training.teacher import ANSWER_FILE, Answer, ask, best_answers, figures
from chaosgym.training.validation import divide

__all__ = ["DistillConfig", "distill"]

_log = logging.getLogger(__name__)


def distill(config: DistillConfig, *, resume: bool = False) -> dict[str, Any]:
    """Train and return the summary; a finished run is not run again when `resume` is set."""
    return _by_logits(config, resume) if config.method == "logits" else _by_rejection(config, resume)


def _by_logits(config: DistillConfig, resume: bool) -> dict[str, Any]:
    refuse_strangers(config)  # before there is a run directory that holds the wrong name
    run = open_run(config, "distill", resume)
    return run.summary() or train_on_logits(config, run, read_sources(config.episodes))


def _by_rejection(config: DistillConfig, resume: bool) -> dict[str, Any]:
    teacher = _teacher(config)  # before, too
    run = open_run(config, "distill", resume)
    if done := run.summary():
        return done
    sources, _ = divide(read_sources(config.episodes), config.validation)
    kept = _keep(config, run, sources, _ask(teacher, config, run, sources))
    del teacher  # a model's memory is the student's from here on
    form = prompt_format(config)
    model, tokenizer = new_model(config, sources, form) if config.model == NANO else load_model(config.model, frozen=bool(config.lora))
    known = [source for source in sources if source.id in kept]
    return supervised.fit(config, run, model, tokenizer, _sequences(config, known, kept, form, tokenizer), form)


def _teacher(config: DistillConfig) -> Any:
    """Of several processes the first asks it."""
    return make_agent(config.teacher, seed=config.seed, temperature=config.temperature) if processes.rank() == 0 else None


def _ask(teacher: Any, config: DistillConfig, run: Run, sources: Sequence[Source]) -> list[Answer]:
    return processes.first(lambda: ask(teacher, config.teacher, sources, config.answers, run.path / ANSWER_FILE))


def _keep(config: DistillConfig, run: Run, sources: Sequence[Source], answers: Sequence[Answer]) -> dict[str, tuple[Diagnosis, ...]]:
    """What the student is taught, by episode; says how good the teacher was. Raises InputError when it was never good enough."""
    kept = best_answers(answers, config.threshold, config.kept)
    run.log({"step": 0, **(found := figures(answers, sources, config.threshold, kept))})
    best = max(answer.reward for answer in answers)
    said = (config.teacher, found["teacher/reward"], len(kept), len(sources))
    _log.info("teacher %s: mean reward %.3f, kept answers about %d of %d episodes", *said)
    if not kept:
        raise InputError(
            f"teacher {config.teacher!r}: none of its {len(answers)} answers earned threshold {config.threshold:g}, the best {best:.2f}; "
            f"take a better teacher, or lower threshold in another `out` with a copy of {run.path / ANSWER_FILE}, which is not asked again"
        )
    unknown = sorted({source.label for source in sources} - {source.label for source in sources if source.id in kept})
    if unknown:
        _log.warning("no answer of the teacher is good enough for %s: the student never sees them", ", ".join(unknown))
    return kept


def _sequences(
    config: DistillConfig, sources: Sequence[Source], kept: Mapping[str, tuple[Diagnosis, ...]], form: PromptFormat, tokenizer: Any
) -> Iterator[supervised.Sequence]:
    """As in `sft`: every sequence is another rendering, which the answers fit, as they name components by their real names."""
    for number, task in enumerate(draw_tasks(sources, config.steps * config.batch_size, config.seed + 2, form)):
        choice = kept[task.source.id]
        yield supervised.answer_sequence(tokenizer, task.messages, in_words(choice[number % len(choice)], task, form))
