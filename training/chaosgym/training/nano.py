"""Models: a nano one from nothing, or any causal model of the hub, with LoRA where asked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chaosgym.agents.prompt import PROMPT_FILE, PromptFormat
from chaosgym.errors import InputError
from chaosgym.training.config import NANO, Lora, NanoShape, Training
from chaosgym.training.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from peft import LoraConfig

__all__ = ["NANO_ANSWER", "checkpointing", "device_arguments", "load_model", "lora_config", "make_nano", "prompt_format"]

NANO_ANSWER = 24
"""Tokens that a nano model may answer with: three causes take 18."""


def make_nano(shape: NanoShape, tokenizer: Any, seed: int) -> Any:
    """A Qwen3 model with random weights for `tokenizer`."""
    import torch
    from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

    head = 64 if shape.hidden >= 128 else 32
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(Qwen3Config(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=shape.hidden,
        intermediate_size=round(shape.hidden * 2.75 / 32) * 32,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.hidden // head,
        num_key_value_heads=shape.hidden // head,
        head_dim=head,
        max_position_embeddings=shape.positions,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    ))
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    return model


def load_model(name: str, frozen: bool = False) -> tuple[Any, Any]:
    """Model and tokenizer of a folder or hub id. Raises InputError when they cannot be loaded.

    Weights are float32, as small updates are lost on shorter ones; on a GPU those that stay as they are (`frozen`) are as in the file.
    A folder with LoRA adapters comes back merged into its base, so that the next stage can put its own on top.
    """
    import torch
    from transformers import AutoModelForCausalLM

    local = Path(name).is_dir()
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if local and not any((Path(name) / file).is_file() for file in ("config.json", "adapter_config.json")):
        raise InputError(f"{name}: no config.json, so not a model; name a model folder such as runs/sft/model, or a hub id")
    tokenizer = load_tokenizer(name)
    try:
        dtype = "auto" if frozen and torch.cuda.is_available() else torch.float32
        model: Any = AutoModelForCausalLM.from_pretrained(name, dtype=dtype, local_files_only=local)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{name}: the model cannot be loaded ({error}); check the folder, or the hub id and the network") from error
    if hasattr(model, "peft_config"):
        from peft import PeftModel

        del model
        base = AutoModelForCausalLM.from_pretrained(_base_of(name), dtype=dtype)
        model = PeftModel.from_pretrained(base, name).merge_and_unload()
    return model, tokenizer


def _base_of(folder: str) -> str:
    from peft import PeftConfig

    return str(PeftConfig.from_pretrained(folder).base_model_name_or_path)


def lora_config(lora: Lora | None) -> LoraConfig | None:
    """What TRL needs to put adapters on every linear layer but the head."""
    if lora is None:
        return None
    from peft import LoraConfig

    return LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules="all-linear", task_type="CAUSAL_LM")


def device_arguments(precision: str) -> dict[str, Any]:
    """Trainer arguments for what this machine has; TRL alone would take bfloat16 everywhere and recompute activations."""
    import torch

    gpu = torch.cuda.is_available()
    short = precision == "bfloat16" or (precision == "auto" and (gpu or _short_floats_are_fast()))
    return {"use_cpu": not gpu, "bf16": short, "dataloader_pin_memory": gpu, **checkpointing(gpu)}


def checkpointing(wanted: bool) -> dict[str, bool]:
    """The trainer argument for computing activations again in the backward pass instead of keeping them."""
    from transformers import TrainingArguments

    # The old name of the same thing, which TRL switches on, is deprecated where the new one exists.
    return {"activation_checkpointing" if hasattr(TrainingArguments, "activation_checkpointing") else "gradient_checkpointing": wanted}


def _short_floats_are_fast() -> bool:
    """Whether this CPU multiplies bfloat16 by itself: 1.5 times the speed of float32 then, and a third of it elsewhere."""
    import torch

    found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def prompt_format(config: Training) -> PromptFormat:
    """How the model of `config` is asked: as its folder says, else as its kind needs; the configuration's own words win."""
    folder = Path(config.model)
    if config.model == NANO:
        known = PromptFormat(rendering="compact", budget=config.budget, system="", max_new_tokens=NANO_ANSWER)
    else:
        known = PromptFormat.load(folder) if folder.is_dir() else PromptFormat()
    settled = (folder / PROMPT_FILE).is_file() and "budget" not in config.model_fields_set
    changes: dict[str, Any] = {"certainty": None, **({} if settled else {"budget": config.budget})}  # another model is sure of other things
    if config.rendering is not None:
        changes["rendering"] = config.rendering
    return known.model_copy(update=changes)
