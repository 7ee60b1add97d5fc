"""What `train grpo` and `train ppo` share: from sources to a model that answers better.

    pool of incidents ──> tried: how often right? ──> prefer one half ──> sampled answers ──> reward ──> update
                                                                              └──> rollouts.jsonl
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from chaosgym.agents.prompt import PromptFormat
from chaosgym.errors import InputError
from chaosgym.training.callbacks import Clock, FiniteLoss, Metrics
from chaosgym.training.config import Reinforcement
from chaosgym.training.nano import load_model, lora_config, prompt_format
from chaosgym.training.optimizer import Schedule, make_optimizer, make_schedule
from chaosgym.training.reward import Judge, Variance
from chaosgym.training.rollouts import ROLLOUT_FILE, RolloutFile
from chaosgym.training.run import Run
from chaosgym.training.supervised import finish, trainer_arguments
from chaosgym.training.tasks import Source, Task, draw_tasks, make_task
from chaosgym.training.validation import Best, divide

__all__ = ["Method", "reinforce"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Method:
    """What tells one way of reinforcement from another."""

    trainer: Callable[..., Any]
    """A GRPOTrainer, or a subclass."""
    sharing: Callable[..., Any]
    """The same, computing each prompt once for all its answers."""
    arguments: dict[str, Any]
    """For GRPOConfig, beyond those that every method gets."""
    epochs: int = 1
    """Updates from each batch of answers."""
    value_rate: float | None = None
    """Learning rate of a value head."""
    within: Literal["group", "batch"] = "group"
    """Where rewards must differ for anything to be learnt."""
    prepare: Callable[[Any], None] = field(default=lambda trainer: None)
    """Called with the new trainer."""


def reinforce(config: Reinforcement, run: Run, sources: Sequence[Source], method: Method) -> dict[str, Any]:
    """Train on `sources`, from the newest checkpoint of `run` if it has one, and return the summary."""
    form = _form(config)
    sources, kept_out = divide(sources, config.validation)
    model, tokenizer = load_model(config.model)
    judge = Judge(form)
    trainer = _trainer(config, run, model, tokenizer, judge, form, method)
    weights = _try(trainer, judge, config, run, sources, form)
    batches = -(-config.steps // method.epochs)
    tasks = list(draw_tasks(sources, batches * config.batch_size // config.generations, config.seed + 3, form, weights))
    judge.know(tasks)
    judge.kept = _kept(config, run, trainer)
    trainer.train_dataset = _dataset(tasks)
    variance, finite = Variance(judge, config.patience, method.within), FiniteLoss()
    schedule = Schedule(config.steps, config.warmup, config.minutes * 60 if config.minutes else None)
    for callback in (Metrics(run), Clock(schedule), variance, finite, *_best(config, run, judge, kept_out, form, trainer)):
        trainer.add_callback(callback)
    trainer.optimizer = make_optimizer(trainer.model, config.muon_learning_rate, config.learning_rate, method.value_rate)
    trainer.lr_scheduler = make_schedule(trainer.optimizer, schedule)

    def check() -> None:
        variance.check()
        finite.check()

    return finish(trainer, run, tokenizer, form, schedule, check)


def _best(
    config: Reinforcement, run: Run, judge: Judge, kept_out: Sequence[Source], form: PromptFormat, trainer: Any
) -> Iterator[Best]:
    """Who picks the result, where there is something to pick it by; of several processes each would pick another."""
    if kept_out and trainer.accelerator.num_processes == 1:
        yield Best(trainer, judge, run, kept_out, form, config.validate_every)


def _form(config: Reinforcement) -> PromptFormat:
    form = prompt_format(config)
    return form.model_copy(update={"max_new_tokens": config.max_answer}) if config.max_answer else form


def _trainer(
    config: Reinforcement, run: Run, model: Any, tokenizer: Any, judge: Judge, form: PromptFormat, method: Method
) -> Any:
    """A trainer that has no data yet."""
    from trl.trainer.grpo_config import GRPOConfig

    arguments: dict[str, Any] = {
        **trainer_arguments(config, run),
        "num_generations": config.generations,
        "max_completion_length": form.max_new_tokens,
        "temperature": config.temperature,
        "top_k": 0,
        "beta": config.beta,
        "loss_type": "dapo",
        "num_iterations": method.epochs,
        "chat_template_kwargs": {"enable_thinking": False},
        "shuffle_dataset": False,
        "remove_unused_columns": False,
        **method.arguments,
    }
    kind = method.sharing if _shared(config, model) else method.trainer
    nothing_yet = _dataset([])  # the model is tried first, and what it finds hard decides what it is asked
    trainer = kind(
        model, judge, GRPOConfig(**arguments), nothing_yet, processing_class=tokenizer, peft_config=lora_config(config.lora)
    )
    if trainer.ref_model is not None and (Path(config.model) / "adapter_config.json").is_file():
        # TRL loads it by name, and a model with adapters merged into it bears that of its base.
        trainer.ref_model.load_state_dict(model.state_dict(), strict=False)
    method.prepare(trainer)
    return trainer


def _shared(config: Reinforcement, model: Any) -> bool:
    """Whether prompts may be shared: asked for, or a Qwen3 model trained whole by one process on a CPU."""
    import torch

    known = getattr(model.config, "model_type", "") in ("qwen3", "qwen2", "llama")
    possible = known and config.lora is None and config.micro == config.batch_size
    if config.shared_prefix and not possible:
        raise InputError("shared_prefix works for Qwen and Llama models trained whole, without micro_batch_size; leave shared_prefix out")
    return possible and not torch.cuda.is_available() if config.shared_prefix is None else config.shared_prefix


def _kept(config: Reinforcement, run: Run, trainer: Any) -> RolloutFile | None:
    """Where rollouts go; of several processes the first keeps its own. What comes again after the checkpoint is dropped."""
    if not config.rollout_megabytes or not trainer.accelerator.is_main_process:
        return None
    checkpoint = run.checkpoint()
    done = int(checkpoint.name.removeprefix("checkpoint-")) if checkpoint else 0
    return RolloutFile(run.path / ROLLOUT_FILE, int(config.rollout_megabytes * 1e6), done)


def _dataset(tasks: Sequence[Task]) -> Any:
    from datasets import Dataset

    return Dataset.from_list([{"prompt": task.messages, "task": Judge.key(task)} for task in tasks] or [{"prompt": [], "task": ""}])


def _try(
    trainer: Any, judge: Judge, config: Reinforcement, run: Run, sources: Sequence[Source], form: PromptFormat
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


def _spread(sources: Sequence[Source], config: Reinforcement) -> Sequence[Source]:
    """At most `pool` sources, drawn by the seed."""
    return random.Random(f"pool {config.seed}").sample(list(sources), min(config.pool, len(sources)))
