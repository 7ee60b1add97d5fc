"""`chaosgym train grpo`: reinforcement learning on the reward, with TRL's GRPOTrainer.

    pool of incidents ──> tried: how often right? ──> prefer one half ──> groups of answers ──> reward ──> update
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from chaosgym.agents.prompt import PromptFormat
from chaosgym.errors import InputError
from chaosgym.training.callbacks import Clock, FiniteLoss, Metrics
from chaosgym.training.config import GrpoConfig
from chaosgym.training.nano import load_model, lora_config, prompt_format
from chaosgym.training.optimizer import Schedule, make_optimizer, make_schedule
from chaosgym.training.reward import Judge, Variance
from chaosgym.training.run import Run, open_run
from chaosgym.training.supervised import finish, trainer_arguments
from chaosgym.training.tasks import Source, Task, draw_tasks, make_task, read_sources

__all__ = ["GrpoConfig", "grpo", "make_reinforced"]

_log = logging.getLogger(__name__)


def grpo(config: GrpoConfig, *, resume: bool = False) -> dict[str, Any]:
    """Train and return the summary; a finished run is not run again when `resume` is set."""
    run = open_run(config, "grpo", resume)
    return run.summary() or make_reinforced(config, run, read_sources(config.episodes))


def make_reinforced(config: GrpoConfig, run: Run, sources: Sequence[Source]) -> dict[str, Any]:
    """As `grpo`, of sources that were read already."""
    form = _form(config)
    model, tokenizer = load_model(config.model)
    judge = Judge(form)
    trainer = _trainer(config, run, model, tokenizer, judge, form)
    weights = _try(trainer, judge, config, run, sources, form)
    tasks = list(draw_tasks(sources, config.steps * config.batch_size // config.generations, config.seed + 3, form, weights))
    judge.know(tasks)
    trainer.train_dataset = _dataset(tasks)
    variance, finite = Variance(judge, config.patience), FiniteLoss()
    schedule = Schedule(config.steps, config.warmup, config.minutes * 60 if config.minutes else None)
    for callback in (Metrics(run), Clock(schedule), variance, finite):
        trainer.add_callback(callback)
    trainer.optimizer = make_optimizer(trainer.model, config.muon_learning_rate, config.learning_rate)
    trainer.lr_scheduler = make_schedule(trainer.optimizer, schedule)

    def check() -> None:
        variance.check()
        finite.check()

    return finish(trainer, run, tokenizer, form, schedule, check)


def _form(config: GrpoConfig) -> PromptFormat:
    form = prompt_format(config)
    return form.model_copy(update={"max_new_tokens": config.max_answer}) if config.max_answer else form


def _trainer(config: GrpoConfig, run: Run, model: Any, tokenizer: Any, judge: Judge, form: PromptFormat) -> Any:
    """A GRPOTrainer that has no data yet."""
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    args = GRPOConfig(
        **trainer_arguments(config, run),
        num_generations=config.generations,
        max_completion_length=form.max_new_tokens,
        temperature=config.temperature,
        top_k=0,
        beta=config.beta,
        scale_rewards="none",  # dividing by a group's deviation would make as much of the small extras as of being right
        loss_type="dapo",
        epsilon_high=0.28,
        chat_template_kwargs={"enable_thinking": False},
        shuffle_dataset=False,
        remove_unused_columns=False,
    )
    kind = (_shared(config, model) and _shared_trainer()) or GRPOTrainer
    nothing_yet = _dataset([])  # the model is tried first, and what it finds hard decides what it is asked
    return kind(model, judge, args, nothing_yet, processing_class=tokenizer, peft_config=lora_config(config.lora))


def _shared_trainer() -> Any:
    from chaosgym.training.prefix import SharedPrefixGRPOTrainer

    return SharedPrefixGRPOTrainer


def _shared(config: GrpoConfig, model: Any) -> bool:
    """Whether prompts may be shared: asked for, or a Qwen3 model trained whole by one process on a CPU."""
    import torch

    known = getattr(model.config, "model_type", "") in ("qwen3", "qwen2", "llama")
    possible = known and config.lora is None and config.micro == config.batch_size
    if config.shared_prefix and not possible:
        raise InputError("shared_prefix works for Qwen and Llama models trained whole, without micro_batch_size; leave shared_prefix out")
    return possible and not torch.cuda.is_available() if config.shared_prefix is None else config.shared_prefix


def _dataset(tasks: Sequence[Task]) -> Any:
    from datasets import Dataset

    return Dataset.from_list([{"prompt": task.messages, "task": Judge.key(task)} for task in tasks] or [{"prompt": [], "task": ""}])


def _try(
    trainer: Any, judge: Judge, config: GrpoConfig, run: Run, sources: Sequence[Source], form: PromptFormat
) -> dict[str, float] | None:
    """Let the model answer a pool of incidents and weigh each episode by how much its answers differ in reward.

    With success rate p a group of answers teaches in proportion to p (1 - p); a floor keeps every episode in play.
    """
    if not config.pool:
        return None
    tasks = [make_task(source, -1 - number, form) for number, source in enumerate(_spread(sources, config))]
    judge.know(tasks)
    rewards = judge.rewards(trainer, tasks, config.generations)
    weights = {source.id: 0.05 for source in sources}
    solved = 0.0
    for task, values in zip(tasks, rewards, strict=True):
        right = sum(value > judge.solved for value in values) / len(values)
        solved += right
        weights[task.source.id] = 0.05 + right * (1 - right)
    anyhow = sum(max(values) > judge.solved for values in rewards) / len(rewards)
    run.log({"step": 0, "pool": len(tasks), "pass@1": round(solved / len(tasks), 4), f"pass@{config.generations}": round(anyhow, 4)})
    _log.info("of %d incidents: pass@1 %.2f, pass@%d %.2f", len(tasks), solved / len(tasks), config.generations, anyhow)
    return weights


def _spread(sources: Sequence[Source], config: GrpoConfig) -> Sequence[Source]:
    """At most `pool` sources, drawn by the seed."""
    import random

    return random.Random(f"pool {config.seed}").sample(list(sources), min(config.pool, len(sources)))
