"""Distillation from a model's probabilities, with TRL's DistillationTrainer (Agarwal et al. 2023).

The student answers, and at each token of its answer both models say how likely they find every token there is; the
student's probabilities move towards the teacher's. It so learns from what it does itself, mistakes included.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chaosgym.agents.prompt import INSTRUCTION, PromptFormat
from chaosgym.errors import InputError
from chaosgym.training.callbacks import Clock, FiniteLoss, Guard, Metrics
from chaosgym.training.config import DistillConfig
from chaosgym.training.nano import load_model, lora_config, prompt_format
from chaosgym.training.optimizer import Schedule, make_optimizer, make_schedule
from chaosgym.training.reward import Judge
from chaosgym.training.run import Run
from chaosgym.training.supervised import finish, trainer_arguments
from chaosgym.training.tasks import Source, draw_tasks
from chaosgym.training.tokenizer import load_tokenizer
from chaosgym.training.validation import Best, ReportExam, divide

__all__ = ["Endless", "refuse_strangers", "train_on_logits"]

_PATIENCE = 20
"""Steps without an answer that ends, after which training stops."""


def refuse_strangers(config: DistillConfig) -> None:
    """Raise InputError where the teacher reads or writes otherwise than the student: their probabilities are of different things."""
    teacher = _teacher(config)
    student_words, teacher_words = load_tokenizer(config.model), load_tokenizer(teacher)
    if (a := student_words.get_vocab()) != (b := teacher_words.get_vocab()) or _ids(student_words) != _ids(teacher_words):
        raise InputError(
            f"teacher {teacher}: its vocabulary ({len(b)} tokens) is not that of model {config.model} ({len(a)} tokens), so their "
            f"probabilities cannot be compared; pretrain a student with `vocabulary_of: {teacher}`, take another size of the same family, "
            "or `method: reject`"
        )
    if student_words.chat_template != teacher_words.chat_template:
        raise InputError(
            f"teacher {teacher}: its chat template is not that of model {config.model}, so it would read what it was not trained on; "
            "take another size of the same family, or `method: reject`"
        )
    here, there = prompt_format(config), PromptFormat.load(teacher) if Path(teacher).is_dir() else PromptFormat()
    if here.rendering != there.rendering or here.system != there.system:
        raise InputError(
            f"teacher {teacher}: reads {_reads(there)}, and model {config.model} {_reads(here)}; set rendering to "
            f"{there.rendering} if the student may read that, or take `method: reject`"
        )


def _teacher(config: DistillConfig) -> str:
    return config.teacher.removeprefix("slm:")


def _ids(tokenizer: Any) -> list[int]:
    """The instruction in tokens: the same vocabulary may be put together otherwise."""
    return tokenizer(INSTRUCTION)["input_ids"]


def _reads(form: PromptFormat) -> str:
    instruction = "no instruction" if not form.system else "the usual instruction" if form.system == INSTRUCTION else "another instruction"
    return f"{form.rendering} reports after {instruction}"


def train_on_logits(config: DistillConfig, run: Run, sources: Sequence[Source]) -> dict[str, Any]:
    """Train from the newest checkpoint of `run` if it has one, and return the summary."""
    form = prompt_format(config)
    sources, kept_out = divide(sources, config.validation)
    model, tokenizer = load_model(config.model, frozen=bool(config.lora))
    trainer = _trainer(config, run, model, tokenizer, sources, form)
    endless, finite = Endless(), FiniteLoss()
    schedule = Schedule(config.steps, config.warmup, config.minutes * 60 if config.minutes else None)
    for callback in (Metrics(run), Clock(schedule), endless, finite):
        trainer.add_callback(callback)
    if kept_out:
        trainer.add_callback(Best(trainer, run, ReportExam(trainer, Judge(form), kept_out, form), config.validate_every))
    trainer.optimizer = make_optimizer(trainer.model, config.muon_learning_rate, config.learning_rate)
    trainer.lr_scheduler = make_schedule(trainer.optimizer, schedule)

    def check() -> None:
        endless.check()
        finite.check()

    return finish(trainer, run, tokenizer, form, schedule, check)


def _trainer(config: DistillConfig, run: Run, model: Any, tokenizer: Any, sources: Sequence[Source], form: PromptFormat) -> Any:
    from datasets import Dataset
    from trl.trainer.distillation_config import DistillationConfig
    from trl.trainer.distillation_trainer import DistillationTrainer

    teacher, _ = load_model(_teacher(config), frozen=True)
    if (here := model.config.vocab_size) != (there := teacher.config.vocab_size):
        raise InputError(
            f"teacher {_teacher(config)}: gives {there} probabilities and model {config.model} {here}, though their tokenizers are alike; "
            "take another size of the same family, or `method: reject`"
        )
    arguments: dict[str, Any] = {
        **trainer_arguments(config, run),
        "max_completion_length": form.max_new_tokens,
        "temperature": config.temperature,
        "top_k": 0,
        "beta": config.beta,
        "chat_template_kwargs": {"enable_thinking": False},
        "shuffle_dataset": False,
    }
    tasks = draw_tasks(sources, config.steps * config.batch_size, config.seed + 3, form)
    return DistillationTrainer(
        model, teacher, DistillationConfig(**arguments), Dataset.from_list([{"prompt": task.messages} for task in tasks]),
        processing_class=tokenizer, peft_config=lora_config(config.lora),
    )


class Endless(Guard):
    """Stops when the student does nothing but babble: a teacher agrees on what comes after nonsense, and nothing is learnt."""

    def __init__(self) -> None:
        self._since: int | None = None

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Look at the share of answers that were cut off."""
        cut = (logs or {}).get("completions/clipped_ratio")
        if cut is None:
            return
        self._since = None if cut < 1.0 else state.global_step if self._since is None else self._since
        if self._since is not None and state.global_step - self._since >= _PATIENCE:
            what = f"no answer of the student came to its end since step {self._since}, and what follows nonsense teaches nothing"
            self.stop(control, f"{what}: run `chaosgym train sft`, or distill by `method: reject`, first")
