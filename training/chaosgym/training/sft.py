"""`chaosgym train sft`: supervised fine-tuning on the right answers to recorded incidents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from chaosgym.agents.prompt import PromptFormat
from chaosgym.training import supervised
from chaosgym.training.config import NANO, SftConfig
from chaosgym.training.nano import load_model, prompt_format
from chaosgym.training.pretrain import new_model
from chaosgym.training.run import Run, open_run
from chaosgym.training.tasks import Source, draw_tasks, read_sources, right_answer
from chaosgym.training.validation import divide

__all__ = ["SftConfig", "make_tuned", "sft"]


def sft(config: SftConfig, *, resume: bool = False) -> dict[str, Any]:
    """Train and return the summary; a finished run is not run again when `resume` is set."""
    run = open_run(config, "sft", resume)
    if config.task == "investigate":
        from chaosgym.training.imitate import imitate

        return run.summary() or imitate(config, run)
    return run.summary() or make_tuned(config, run, read_sources(config.episodes))


def make_tuned(config: SftConfig, run: Run, sources: Sequence[Source]) -> dict[str, Any]:
    """As `sft`, of sources that were read already."""
    sources, _ = divide(sources, config.validation)
    form = prompt_format(config)
    model, tokenizer = new_model(config, sources, form) if config.model == NANO else load_model(config.model, frozen=bool(config.lora))
    return supervised.fit(config, run, model, tokenizer, _sequences(config, sources, form, tokenizer), form)


def _sequences(config: SftConfig, sources: Sequence[Source], form: PromptFormat, tokenizer: Any) -> Iterator[supervised.Sequence]:
    """Every sequence is another rendering."""
    for task in draw_tasks(sources, config.steps * config.batch_size, config.seed + 2, form):
        yield supervised.answer_sequence(tokenizer, task.messages, right_answer(task, form, config.confidence))
