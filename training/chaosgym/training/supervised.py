"""The loop that pretraining and SFT share: TRL's SFTTrainer over sequences that are tokenised already."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from chaosgym.agents.prompt import PromptFormat
from chaosgym.errors import InputError
from chaosgym.training.callbacks import Clock, FiniteLoss, Metrics, quiet
from chaosgym.training.config import Training
from chaosgym.training.nano import device_arguments, lora_config
from chaosgym.training.optimizer import Schedule, make_optimizer, make_schedule
from chaosgym.training.run import Run

__all__ = ["Sequence", "answer_sequence", "fit", "text_sequence", "trainer_arguments"]

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


def trainer_arguments(config: Training, run: Run) -> dict[str, Any]:
    """Arguments that every trainer of ours gets."""
    return {
        "output_dir": str(run.path),
        "seed": config.seed,
        "max_steps": config.steps,
        "per_device_train_batch_size": config.micro,
        "gradient_accumulation_steps": config.batch_size // config.micro,
        "learning_rate": config.learning_rate,
        "max_grad_norm": 1.0,
        "logging_steps": config.log_every,
        "save_steps": config.save_every,
        "save_total_limit": 2,
        "report_to": list(config.report_to) or "none",
        "disable_tqdm": True,
        **device_arguments(config.precision),
    }


def fit(
    config: Training, run: Run, model: Any, tokenizer: Any, sequences: Iterable[Sequence], form: PromptFormat
) -> dict[str, Any]:
    """Train `model` on `sequences`, `steps` batches of them in their order, save it under the run and return the summary."""
    from datasets import Dataset
    from trl.trainer.sft_config import SFTConfig

    from chaosgym.training.answers import AnswerTrainer, Collator
    from chaosgym.training.packing import padding_share

    rows = list(sequences)
    _check_lengths(rows, model, config)
    args = SFTConfig(
        **trainer_arguments(config, run), max_length=None, packing=False, shuffle_dataset=False, train_sampling_strategy="sequential",
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    schedule = Schedule(config.steps, config.warmup, config.minutes * 60 if config.minutes else None)
    finite = FiniteLoss()
    trainer: Any = AnswerTrainer(
        model, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, peft_config=lora_config(config.lora),
        data_collator=Collator(tokenizer.pad_token_id), callbacks=[Metrics(run), Clock(schedule), finite],
    )
    trainer.optimizer = make_optimizer(trainer.model, config.muon_learning_rate, config.learning_rate)
    trainer.lr_scheduler = make_schedule(trainer.optimizer, schedule)
    padding = round(padding_share(rows, config.micro), 4)
    return finish(trainer, run, tokenizer, form, schedule, finite.check, {"padding": padding})


def finish(
    trainer: Any, run: Run, tokenizer: Any, form: PromptFormat, schedule: Schedule, check: Callable[[], None],
    known: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Run the loop from the newest checkpoint, save the model, write the summary."""
    began = time.monotonic()
    quiet(trainer)
    checkpoint = run.checkpoint()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    check()
    trainer.save_model(str(run.model))
    tokenizer.save_pretrained(str(run.model))
    form.save(run.model)
    return run.finish({
        "steps": trainer.state.global_step,
        "seconds": round(time.monotonic() - began, 2),
        "out_of_time": schedule.out_of_time,
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "tokens": int(getattr(trainer, "_total_train_tokens", 0)),
        "resumed_from": checkpoint.name if checkpoint else None,
        **known,
    })


def _check_lengths(rows: list[Sequence], model: Any, config: Training) -> None:
    longest = max((len(row["input_ids"]) for row in rows), default=0)
    room = getattr(model.config, "max_position_embeddings", None)
    if room is not None and longest > room:
        raise InputError(f"a sequence of {longest} tokens does not fit into the model's {room} positions: lower budget ({config.budget})")
