"""`chaosgym train pretrain`: a nano model from nothing, with its tokenizer, that has learnt to read reports."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import accumulate, cycle
from typing import Any

from chaosgym.agents.prompt import PromptFormat
from chaosgym.training import supervised
from chaosgym.training.config import PretrainConfig, Training
from chaosgym.training.corpus.shards import read_corpus
from chaosgym.training.nano import make_nano, prompt_format
from chaosgym.training.packing import interleave, pack
from chaosgym.training.quiz import exercises
from chaosgym.training.run import Run, open_run
from chaosgym.training.skills import draw_exercises
from chaosgym.training.tasks import Source, draw_tasks, read_sources
from chaosgym.training.tokenizer import build_tokenizer, load_tokenizer

__all__ = ["PretrainConfig", "make_pretrained", "new_model", "pretrain"]

_TOKENIZER_TEXTS = 600
_TOKENIZER_CHARACTERS = 10_000_000


def pretrain(config: PretrainConfig, *, resume: bool = False) -> dict[str, Any]:
    """Train from nothing and return the summary; a finished run is not run again when `resume` is set."""
    run = open_run(config, "pretrain", resume)
    return run.summary() or make_pretrained(config, run, read_sources(config.episodes))


def make_pretrained(config: PretrainConfig, run: Run, sources: Sequence[Source]) -> dict[str, Any]:
    """As `pretrain`, of sources that were read already."""
    form = prompt_format(config)
    documents = _documents(config)
    model, tokenizer = new_model(config, sources, form, _head(documents))
    rows = _sequences(config, sources, form, tokenizer, documents)
    return supervised.fit(config, run, model, tokenizer, rows, form)


def new_model(config: Training, sources: Sequence[Source], form: PromptFormat, others: Sequence[str] = ()) -> tuple[Any, Any]:
    """A tokenizer trained on the reports of `sources` and on `others`, or somebody's, and a nano model with random weights for it."""
    if isinstance(config, PretrainConfig) and config.vocabulary_of is not None:
        tokenizer = load_tokenizer(config.vocabulary_of)
        return make_nano(config.shape, tokenizer, config.seed), tokenizer
    texts = [task.incident.compact for task in draw_tasks(sources, _TOKENIZER_TEXTS, config.seed, form)]
    tokenizer = build_tokenizer([*texts, *others], config.shape.vocabulary)
    return make_nano(config.shape, tokenizer, config.seed), tokenizer


def _documents(config: PretrainConfig) -> list[str]:
    """Those of the corpus in an order drawn by seed."""
    texts = list(read_corpus(config.corpus)) if config.corpus else []
    random.Random(f"corpus {config.seed}").shuffle(texts)
    return texts


def _head(texts: Sequence[str]) -> list[str]:
    """As many as a tokenizer needs."""
    room = accumulate((len(text) for text in texts), initial=0)
    return [text for text, before in zip(texts, room, strict=False) if before < _TOKENIZER_CHARACTERS]


def _sequences(
    config: PretrainConfig, sources: Sequence[Source], form: PromptFormat, tokenizer: Any, documents: Sequence[str]
) -> Iterator[supervised.Sequence]:
    """`steps` batches: reports each in a sequence of its own, corpus and skills packed; the corpus again and again if need be."""
    kinds = interleave(config.shares, config.steps * config.batch_size, config.seed, config.batch_size)
    reports = (supervised.text_sequence(tokenizer, text) for text in _texts(config, sources, form, kinds.count(0)))
    skills = (exercise.text for exercise in draw_exercises(config.seed))
    streams = (reports, pack(tokenizer, cycle(documents), config.block), pack(tokenizer, skills, config.block))
    return (next(streams[kind]) for kind in kinds)


def _texts(config: PretrainConfig, sources: Sequence[Source], form: PromptFormat, count: int) -> Iterator[str]:
    """Reports with exercises, each seed once; short ones in the first half, where finding things again is learnt sooner."""
    short = form.model_copy(update={"budget": max(50, form.budget // 2)})
    for number, part in enumerate((short, form)):
        for task in draw_tasks(sources, count // 2 + number * (count % 2), config.seed + 10 + number, part):
            yield exercises(task.incident.compact, config.questions, task.seed)
