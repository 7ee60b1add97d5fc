"""What `train grpo` and `train ppo` share: from sources to a model that answers better.

    pool of incidents ──tried──> curriculum ──> incidents ──> sampled answers ──> reward ──> update
                                     └──────── how often right? ────────┴──────────┘└──> rollouts.jsonl
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from chaosgym.agents.prompt import PromptFormat
from chaosgym.errors import InputError, PrerequisiteError
from chaosgym.extras import install_line, missing_modules
from chaosgym.training import processes
from chaosgym.training.arrivals import Arrivals, everywhere
from chaosgym.training.callbacks import Clock, FiniteLoss, Metrics
from chaosgym.training.config import Reinforcement
from chaosgym.training.curriculum import Curriculum
from chaosgym.training.nano import load_model, lora_config, prompt_format
from chaosgym.training.optimizer import Schedule, make_optimizer, make_schedule
from chaosgym.training.reward import Counted, Judge, Variance
from chaosgym.training.rollouts import ROLLOUT_FILE, Rollout, RolloutFile
from chaosgym.training.run import Run
from chaosgym.training.splits import Splits
from chaosgym.training.supervised import cut, finish, trainer_arguments
from chaosgym.training.tasks import Source, make_task, read_held_out
from chaosgym.training.validation import Best, ReportExam, divide, is_kept

__all__ = ["Method", "best", "grpo_config", "kept_file", "need_vllm", "reinforce", "run_to_end", "shares"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Method:
    """What tells one way of reinforcement from another."""

    trainer: Callable[..., Any]
    """An AskingGRPOTrainer, or a subclass."""
    sharing: Callable[..., Any]
    """The same, computing once what all answers to a prompt share; of investigations what all turns of one share."""
    arguments: dict[str, Any]
    """For GRPOConfig, beyond those that every method gets."""
    epochs: int = 1
    """Updates from each batch of answers."""
    value_rate: float | None = None
    """Learning rate of a value head."""
    within: Literal["group", "batch"] = "group"
    """Where rewards must differ for anything to be learnt."""
    oversample: float = 0.0
    """Spare incidents at most, as a share of those of a batch, in place of groups whose rewards are all alike."""
    prepare: Callable[[Any], None] = field(default=lambda trainer: None)
    """Called with the new trainer."""


def reinforce(config: Reinforcement, run: Run, sources: Sequence[Source], method: Method) -> dict[str, Any]:
    """Train on `sources`, from the newest checkpoint of `run` if it has one, and return the summary."""
    form = _form(config)
    if config.follow:
        sources = everywhere(sources)
    else:
        processes.refuse_difference("episodes", [source.id for source in sources])
    known, (sources, kept_out) = sources, divide(sources, config.validation)
    model, tokenizer = load_model(config.model, frozen=bool(config.lora))
    judge = Judge(form, sparse=config.reward == "sparse")
    trainer = _trainer(config, run, model, tokenizer, judge, form, method)
    fresh = Arrivals(config.episodes, known, lambda name: not (kept_out and is_kept(name, config.validation))) if config.follow else tuple
    curriculum = Curriculum(sources, form, config.seed + 3, processes.rank(), processes.count(), config.evenly, fresh)
    if not run.checkpoint():  # else what was learnt then and since is in it
        _try(trainer, judge, config, run, sources, form, curriculum)
    judge.kept = kept_file(config, run, trainer)
    trainer.ask(curriculum, judge, method.oversample)
    trainer.train_dataset = _placeholders(-(-config.steps // method.epochs) * config.batch_size // config.generations)
    trainer.add_callback(curriculum)
    exam = ReportExam(trainer, judge, kept_out, form) if kept_out else None
    last = (*_splits(config, run, judge, form, trainer), *best(config, run, trainer, exam))  # the latter may go back to other weights
    return run_to_end(config, run, method, trainer, tokenizer, form, judge, *last)


def run_to_end(
    config: Reinforcement, run: Run, method: Method, trainer: Any, tokenizer: Any, form: PromptFormat, counted: Counted, *last: Any
) -> dict[str, Any]:
    """Give a trainer that has its data what all get, and `last` as its last callbacks; train, and return the summary."""
    variance, finite = Variance(counted, config.patience, method.within), FiniteLoss()
    schedule = Schedule(config.steps, config.warmup, config.minutes * 60 if config.minutes else None)
    for callback in (Metrics(run), Clock(schedule), variance, finite, *last):
        trainer.add_callback(callback)
    trainer.optimizer = make_optimizer(trainer.model, config.muon_learning_rate, config.learning_rate, method.value_rate)
    trainer.lr_scheduler = make_schedule(trainer.optimizer, schedule)

    def check() -> None:
        variance.check()
        finite.check()

    return finish(trainer, run, tokenizer, form, schedule, check)


def best(config: Reinforcement, run: Run, trainer: Any, exam: Callable[[], Sequence[Rollout]] | None) -> Iterator[Best]:
    """Who picks the result, where there is something to pick it by."""
    if exam is not None:
        yield Best(trainer, run, exam, config.validate_every)


def _splits(config: Reinforcement, run: Run, judge: Judge, form: PromptFormat, trainer: Any) -> Iterator[Splits]:
    """Who looks at episodes of other splits."""
    if config.watched:
        yield Splits(trainer, judge, run, read_held_out(config.watched), form, config.validate_every)


def _form(config: Reinforcement) -> PromptFormat:
    form = prompt_format(config)
    return form.model_copy(update={"max_new_tokens": config.max_answer}) if config.max_answer else form


def _trainer(
    config: Reinforcement, run: Run, model: Any, tokenizer: Any, judge: Judge, form: PromptFormat, method: Method
) -> Any:
    """A trainer that has no data yet."""
    kind = method.sharing if shares(config, model) else method.trainer
    trainer = kind(
        model, judge, grpo_config(config, run, method, form.max_new_tokens), _placeholders(1), processing_class=tokenizer,
        peft_config=lora_config(config.lora),
    )  # fmt: skip
    if trainer.ref_model is not None and (Path(config.model) / "adapter_config.json").is_file():
        # TRL loads it by name, and a model with adapters merged into it bears that of its base.
        trainer.ref_model.load_state_dict(model.state_dict(), strict=False)
    method.prepare(trainer)
    return trainer


def grpo_config(config: Reinforcement, run: Run, method: Method, longest: int) -> Any:
    """What TRL is told; `longest`: tokens of an answer."""
    from trl.trainer.grpo_config import GRPOConfig

    _refuse_torn_groups(config)
    arguments: dict[str, Any] = {
        **trainer_arguments(config, run),
        "num_generations": config.generations,
        "max_completion_length": longest,
        "temperature": config.temperature,
        "top_k": 0,
        "beta": config.beta,
        "loss_type": "dapo",
        "num_iterations": method.epochs,
        "chat_template_kwargs": {"enable_thinking": False},
        "shuffle_dataset": False,
        "remove_unused_columns": False,
        **_generation(config),
        **method.arguments,
    }
    return GRPOConfig(**arguments)


def _generation(config: Reinforcement) -> dict[str, Any]:
    return {"use_vllm": True, "vllm_mode": config.vllm, "vllm_server_base_url": config.vllm_url} if config.vllm else {}


def need_vllm(config: Reinforcement) -> None:
    """Raise PrerequisiteError where vLLM is wanted and not there; that is told before there is a run directory."""
    if config.vllm and (missing := missing_modules("vllm")):
        raise PrerequisiteError(f"vllm: {config.vllm} needs the package {missing[0]}; run: {install_line('vllm')}, or drop vllm")


def _refuse_torn_groups(config: Reinforcement) -> None:
    """The answers to an incident must be of one process, which draws another incident where they are all alike."""
    micro, _ = cut(config)
    if micro % config.generations:
        raise InputError(
            f"generations {config.generations} does not divide {micro}, the answers in memory of each of {processes.count()} processes: "
            "raise batch_size, or start fewer processes"
        )


def shares(config: Reinforcement, model: Any) -> bool:
    """Whether `Method.sharing` can be had: asked for, or a model like Qwen3 trained whole by one process on a CPU."""
    import torch

    known = getattr(model.config, "model_type", "") in ("qwen3", "qwen2", "llama")
    possible = known and config.lora is None and not config.vllm and not config.shard and cut(config)[1] == 1
    if config.shared_prefix and not possible:
        raise InputError("shared_prefix works for Qwen and Llama models trained whole, without micro_batch_size or shard; leave it out")
    return possible and not torch.cuda.is_available() if config.shared_prefix is None else config.shared_prefix


def kept_file(config: Reinforcement, run: Run, trainer: Any) -> RolloutFile | None:
    """Where rollouts go; of several processes the first keeps its own. What comes again after the checkpoint is dropped."""
    if not config.rollout_megabytes or not trainer.accelerator.is_main_process:
        return None
    checkpoint = run.checkpoint()
    done = int(checkpoint.name.removeprefix("checkpoint-")) if checkpoint else 0
    return RolloutFile(run.path / ROLLOUT_FILE, int(config.rollout_megabytes * 1e6), done)


def _placeholders(count: int) -> Any:
    """As many rows as incidents are asked, so that TRL counts epochs rightly; what is asked is the curriculum's to say."""
    from datasets import Dataset

    return Dataset.from_list([{"prompt": [], "task": ""}] * count)


def _try(
    trainer: Any, judge: Judge, config: Reinforcement, run: Run, sources: Sequence[Source], form: PromptFormat, curriculum: Curriculum
) -> None:
    """Let the model answer a pool of incidents, so that the curriculum begins with an idea of what is easy and what is hard."""
    if not config.pool or config.evenly == 1:
        return
    tasks = [make_task(source, -1 - number, form) for number, source in enumerate(_spread(sources, config))]
    answers = judge.rollouts(trainer, tasks, config.generations)
    solved, anyhow = 0.0, 0
    for task, group in zip(tasks, answers, strict=True):
        right = [rollout.reward > judge.solved for rollout in group if rollout.reward is not None]
        if right:
            curriculum.saw(task.source, sum(right) / len(right))
        solved += sum(right) / max(1, len(right))
        anyhow += any(right)
    figures = {"pass@1": round(solved / len(tasks), 4), f"pass@{config.generations}": round(anyhow / len(tasks), 4)}
    run.log({"step": 0, "pool": len(tasks), **figures, **curriculum.figures()})
    _log.info("of %d incidents: %s", len(tasks), ", ".join(f"{name} {value:.2f}" for name, value in figures.items()))


def _spread(sources: Sequence[Source], config: Reinforcement) -> Sequence[Source]:
    """At most `pool` sources, drawn by the seed."""
    return random.Random(f"pool {config.seed}").sample(list(sources), min(config.pool, len(sources)))
