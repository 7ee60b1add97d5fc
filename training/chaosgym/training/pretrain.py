"""`chaosgym train pretrain`: a nano model from nothing, with its tokenizer, that has learnt to read reports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from chaosgym.agents.prompt import PromptFormat
from chaosgym.training import supervised
from chaosgym.training.config import PretrainConfig, Training
from chaosgym.training.nano import make_nano, prompt_format
from chaosgym.training.quiz import exercises
from chaosgym.training.run import Run, open_run
from chaosgym.training.tasks import Source, draw_tasks, read_sources
from chaosgym.training.tokenizer import build_tokenizer, load_tokenizer

__all__ = ["PretrainConfig", "make_pretrained", "new_model", "pretrain"]

_TOKENIZER_TEXTS = 600


def pretrain(config: PretrainConfig, *, resume: bool = False) -> dict[str, Any]:
    """Train from nothing and return the summary; a finished run is not run again when `resume` is set."""
    run = open_run(config, "pretrain", resume)
    return run.summary() or make_pretrained(config, run, read_sources(config.episodes))


def make_pretrained(config: PretrainConfig, run: Run, sources: Sequence[Source]) -> dict[str, Any]:
    """As `pretrain`, of sources that were read already."""
    form = prompt_format(config)
    model, tokenizer = new_model(config, sources, form)
    texts = _texts(config, sources, form)
    return supervised.fit(config, run, model, tokenizer, (supervised.text_sequence(tokenizer, text) for text in texts), form)


def new_model(config: Training, sources: Sequence[Source], form: PromptFormat) -> tuple[Any, Any]:
    """A tokenizer trained on the reports of `sources`, or somebody's, and a nano model with random weights for it."""
    if isinstance(config, PretrainConfig) and config.vocabulary_of is not None:
        tokenizer = load_tokenizer(config.vocabulary_of)
        return make_nano(config.nano, tokenizer, config.seed), tokenizer
    texts = [task.incident.compact for task in draw_tasks(sources, _TOKENIZER_TEXTS, config.seed, form)]
    tokenizer = build_tokenizer(texts, config.nano.vocabulary)
    return make_nano(config.nano, tokenizer, config.seed), tokenizer


def _texts(config: PretrainConfig, sources: Sequence[Source], form: PromptFormat) -> Iterator[str]:
    """Reports with exercises, each seed once; short ones in the first half, where finding things again is learnt sooner."""
    short = form.model_copy(update={"budget": max(50, form.budget // 2)})
    count = config.steps * config.batch_size
    for number, part in enumerate((short, form)):
        for task in draw_tasks(sources, count // 2 + number * (count % 2), config.seed + 10 + number, part):
            yield exercises(task.incident.compact, config.questions, task.seed)
