"""The loop that pretraining and SFT share: TRL's SFTTrainer over sequences that are tokenised already."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from chaosgym.agents.prompt import PromptFormat
from chaosgym.errors import InputError
from chaosgym.training import processes
from chaosgym.training.callbacks import Clock, FiniteLoss, Metrics, quiet
from chaosgym.training.config import Training
from chaosgym.training.nano import checkpointing, device_arguments, lora_config
from chaosgym.training.optimizer import Schedule, make_optimizer, make_schedule
from chaosgym.training.run import Run

__all__ = ["Sequence", "answer_sequence", "cut", "fit", "text_sequence", "trainer_arguments"]

Sequence = dict[str, list[int]]
"""`input_ids`, and `labels` with -100 where nothing is to be learnt."""


def text_sequence(tokenizer: Any, text: str) -> Sequence:
    """All of `text` is to be learnt."""
    ids: list[int] = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    return {"input_ids": ids, "labels": list(ids)}


def answer_sequence(tokenizer: Any, messages: list[dict[str, str]], answer: str) -> Sequence:
    """A conversation through the chat template, of which the answer and its end are to be learnt."""
    prompt: list[int] = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, enable_thinking=False, tokenize=True, return_dict=True,
    )["input_ids"]
    rest: list[int] = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    return {"input_ids": [*prompt, *rest], "labels": [-100] * len(prompt) + rest}


_TOGETHER = 8
"""Sequences in memory at a time: of a batch of 32 reports in order of length 10 % is padding then, of 32 at once 30 %."""


def trainer_arguments(config: Training, run: Run, most: int | None = None) -> dict[str, Any]:
    """Arguments that every trainer of ours gets; `most`, and what it raises, as in `cut`."""
    micro, times = cut(config, most)
    return {
        "output_dir": str(run.path),
        "seed": config.seed,
        "max_steps": config.steps,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": times,
        "learning_rate": config.learning_rate,
        "max_grad_norm": 1.0,
        "logging_steps": config.log_every,
        "save_steps": config.save_every,
        "save_total_limit": 2,
        "report_to": list(config.report_to) or "none",
        "disable_tqdm": True,
        "ddp_find_unused_parameters": False,
        **device_arguments(config.precision),
        **(_shards() if config.shard else {}),
    }


def _shards() -> dict[str, Any]:
    """FSDP2: every layer is gathered where it computes; checkpoints and the result are whole files."""
    if processes.count() == 1:
        raise InputError("shard: there is one process, and nobody to share with: start several with `torchrun`, or drop shard")
    import torch

    return {**checkpointing(False), "fsdp": True, "fsdp_config": {"version": 2, "activation_checkpointing": torch.cuda.is_available()}}


def cut(config: Training, most: int | None = None) -> tuple[int, int]:
    """(sequences in the memory of one process at a time, how many times per update), so that all processes together do a batch.

    At most `most` at a time where the configuration does not say. Raises InputError where a batch can't be cut into equal parts.
    """
    of = processes.count()
    share = config.batch_size // of
    micro = config.micro_batch_size or max((size for size in range(1, min(most or share, share) + 1) if share % size == 0), default=0)
    if not micro or config.batch_size % (micro * of):
        each = f"{micro} sequences at a time each" if config.micro_batch_size else "alike"
        remedy = "set micro_batch_size so that it divides batch_size by them" if config.batch_size % of == 0 else "change batch_size"
        raise InputError(f"batch_size {config.batch_size} cannot be cut for {of} processes, {each}: {remedy}, or start fewer processes")
    return micro, config.batch_size // (micro * of)


def fit(
    config: Training, run: Run, model: Any, tokenizer: Any, sequences: Iterable[Sequence], form: PromptFormat
) -> dict[str, Any]:
    """Train `model` on `sequences`, `steps` batches of them one after the other, save it under the run and return the summary."""
    from datasets import Dataset
    from trl.trainer.sft_config import SFTConfig

    from chaosgym.training.answers import AnswerTrainer, Collator
    from chaosgym.training.packing import padding_share, shortest_first

    rows = shortest_first(list(sequences), config.batch_size)
    _check_lengths(rows, model, config)
    processes.refuse_difference("sequences to train on", hash(tuple(tuple(row["input_ids"]) for row in rows)))
    args = SFTConfig(
        **trainer_arguments(config, run, _TOGETHER), max_length=None, packing=False, shuffle_dataset=False,
        train_sampling_strategy="sequential", dataset_kwargs={"skip_prepare_dataset": True},
    )
    schedule = Schedule(config.steps, config.warmup, config.minutes * 60 if config.minutes else None)
    finite = FiniteLoss()
    trainer: Any = AnswerTrainer(
        model, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, peft_config=lora_config(config.lora),
        data_collator=Collator(tokenizer.pad_token_id), callbacks=[Metrics(run), Clock(schedule), finite],
    )
    trainer.optimizer = make_optimizer(trainer.model, config.muon_learning_rate, config.learning_rate)
    trainer.lr_scheduler = make_schedule(trainer.optimizer, schedule)
    padding = round(padding_share(rows, args.per_device_train_batch_size), 4)
    return finish(trainer, run, tokenizer, form, schedule, finite.check, {"padding": padding})


def finish(
    trainer: Any, run: Run, tokenizer: Any, form: PromptFormat, schedule: Schedule, check: Callable[[], None],
    known: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Run the loop from the newest checkpoint, save the model, write the summary."""
    began = time.monotonic()
    if trainer.args.fsdp and not trainer.is_fsdp_enabled:  # it trains copies then, without a word
        raise InputError("shard: needs GPUs, and there are none for accelerate to share out; drop shard")
    quiet(trainer)
    checkpoint = run.checkpoint()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    check()
    trainer.save_model(str(run.model))
    processes.first(lambda: _save_words(tokenizer, run, form))
    return run.finish({
        "steps": trainer.state.global_step,
        "seconds": round(time.monotonic() - began, 2),
        "out_of_time": schedule.out_of_time,
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "tokens": int(trainer.state.num_input_tokens_seen),
        "resumed_from": checkpoint.name if checkpoint else None,
        **known,
    })


def _save_words(tokenizer: Any, run: Run, form: PromptFormat) -> None:
    tokenizer.save_pretrained(str(run.model))
    form.save(run.model)


def _check_lengths(rows: list[Sequence], model: Any, config: Training) -> None:
    longest = max((len(row["input_ids"]) for row in rows), default=0)
    room = getattr(model.config, "max_position_embeddings", None)
    if room is not None and longest > room:
        raise InputError(f"a sequence of {longest} tokens does not fit into the model's {room} positions: lower budget ({config.budget})")
