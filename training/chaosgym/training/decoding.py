"""Answers to prompts, where each prompt is computed once and kept once: all answers to it are decoded side by side in its row.

    cache of a prompt:  prompt ... last | first tokens of answers 1, 2, ... | their second tokens | ...

An answer's token sees the prompt and the tokens of its own answer. What `generate` would do instead is keep a copy of the
prompt for each answer, and copy all of them at each token. The tokens drawn are those that `generate` draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

__all__ = ["decode"]


def decode(model: Any, prompts: Sequence[Sequence[int]], each: int, how: Any, device: Any) -> torch.Tensor:
    """`each` answers to every prompt, (U, each, T) with padding after their ends; `how`: a GenerationConfig.

    Of sampling it knows the temperature alone.
    """
    width = max(map(len, prompts))
    ids = torch.tensor([[how.pad_token_id] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    there = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    positions = (there.cumsum(1) - 1).clamp(min=0)
    read = model(input_ids=ids, attention_mask=there, position_ids=positions, use_cache=True, logits_to_keep=1)
    logits, at = read.logits.expand(-1, each, -1), positions[:, -1:].expand(-1, each)
    visible = there.bool()[:, None, None].expand(-1, 1, each, -1)
    own = torch.eye(each, dtype=torch.bool, device=device).expand(len(prompts), 1, each, each)
    done = torch.zeros_like(at, dtype=torch.bool)
    ends = torch.tensor(how.eos_token_id, device=device)
    found: list[torch.Tensor] = []
    while True:
        tokens = _draw(logits, how).masked_fill(done, how.pad_token_id)
        found.append(tokens)
        done |= torch.isin(tokens, ends)
        if len(found) == how.max_new_tokens or bool(done.all()):
            return torch.stack(found, 2)
        visible, at = torch.cat([visible, own], -1), at + 1
        logits = model(
            input_ids=tokens, attention_mask=visible, position_ids=at, past_key_values=read.past_key_values, use_cache=True
        ).logits  # fmt: skip


def _draw(logits: torch.Tensor, how: Any) -> torch.Tensor:
    """The next token of each answer (U, G), as `generate` draws it."""
    if not how.do_sample:
        return logits.argmax(-1)
    chances = (logits.float() / how.temperature).softmax(-1)
    return torch.multinomial(chances.flatten(0, 1), 1).view(logits.shape[:2])
