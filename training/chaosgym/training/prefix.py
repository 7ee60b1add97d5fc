"""GRPO that computes each prompt once for all the answers to it.

TRL repeats a prompt for each of its generations, in generation and in the loss. With reports of 250 tokens and answers
of 8 that is seven eighths of the work. Here a prompt is filled into the cache once and its answers are decoded beside
each other (decoding.py), and for the loss a row of tokens holds the prompt and then all its answers, each of which sees the
prompt and itself alone:

    prompt ... last | last answer-1 | last answer-2 | ...

The last token of the prompt stands again before each answer, so that the usual shift by one scores the answer's
first token too, and the model is called in TRL's own way. The numbers are the same as TRL's up to rounding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from trl.models.utils import unwrap_model_for_generation

from chaosgym.training.asking import AskingGRPOTrainer
from chaosgym.training.decoding import decode

__all__ = ["Packed", "SharedPrefixGRPOTrainer", "pack"]


class Packed(NamedTuple):
    """Rows that hold a prompt and its answers: U prompts, S = P + G * (1 + T) tokens."""

    input_ids: torch.Tensor
    """(U, S)"""
    positions: torch.Tensor
    """(U, S): every answer goes on where the prompt ends."""
    visible: torch.Tensor
    """(U, 1, S, S), bool: who attends to whom."""
    labels: torch.Tensor
    """(U, S): tokens of answers, -100 elsewhere."""
    rows: torch.Tensor
    """(U, G): which row of the batch each answer came from."""


def pack(input_ids: torch.Tensor, attention_mask: torch.Tensor, answer: int) -> Packed | None:
    """Gather the rows (B, P + T) of a batch whose prompts, of width P, are the same; T = `answer`.

    None when prompts don't have the same number of answers, as then there are no rows of one length.
    """
    width = input_ids.size(1) - answer
    keyed = torch.where(attention_mask[:, :width].bool(), input_ids[:, :width], -1)
    _, which = torch.unique(keyed, dim=0, return_inverse=True)
    counts = torch.bincount(which)
    if int(counts.min()) != int(counts.max()):
        return None
    rows = which.argsort(stable=True).view(len(counts), -1)
    prompt, mask = input_ids[rows[:, 0], :width], attention_mask[rows[:, 0], :width]
    answers, answer_mask = input_ids[rows, width:], attention_mask[rows, width:]
    last = prompt[:, -1, None, None].expand(*rows.shape, 1)
    ids = torch.cat([prompt, torch.cat([last, answers], 2).flatten(1)], 1)
    return Packed(ids, _positions(mask, rows.size(1), answer), _visible(mask, answer_mask), _labels(prompt, answers, answer_mask), rows)


def _positions(mask: torch.Tensor, generations: int, answer: int) -> torch.Tensor:
    prompt = (mask.cumsum(1) - 1).clamp(min=0)
    after = prompt[:, -1:] + torch.arange(answer + 1, device=mask.device)
    return torch.cat([prompt, after.repeat(1, generations)], 1)


def _visible(mask: torch.Tensor, answer_mask: torch.Tensor) -> torch.Tensor:
    """An answer's block sees the prompt but for its last token, which it has itself, and what precedes in the block."""
    prompts, generations, answer = answer_mask.shape
    width, block = mask.size(1), answer + 1
    there = torch.cat([mask, torch.cat([torch.ones_like(answer_mask[:, :, :1]), answer_mask], 2).flatten(1)], 1).bool()
    size = width + generations * block
    index = torch.arange(size, device=mask.device)
    part = torch.where(index < width, 0, 1 + (index - width) // block)
    same = part[:, None] == part[None, :]
    to_prompt = (part[None, :] == 0) & (index[None, :] != width - 1)
    seen = (same | (to_prompt & (part[:, None] > 0))) & (index[None, :] <= index[:, None])
    visible = seen[None] & there[:, None, :]
    return (visible | torch.eye(size, dtype=torch.bool, device=mask.device)[None])[:, None].expand(prompts, 1, size, size)


def _labels(prompt: torch.Tensor, answers: torch.Tensor, answer_mask: torch.Tensor) -> torch.Tensor:
    scored = answers.masked_fill(answer_mask == 0, -100)
    nothing = torch.full_like(scored[:, :, :1], -100)
    return torch.cat([torch.full_like(prompt, -100), torch.cat([nothing, scored], 2).flatten(1)], 1)


class SharedPrefixGRPOTrainer(AskingGRPOTrainer):
    """AskingGRPOTrainer for single-process text models, several times faster where prompts are longer than answers."""

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: Any, multimodal_fields: Any, num_generations: int, has_tool_images: bool = False
    ) -> tuple[list[list[int]], None]:
        with (
            unwrap_model_for_generation(self.model_wrapped, self.accelerator, generation_kwargs=self.generation_kwargs) as model,
            torch.no_grad(),
        ):
            return self._answers(model, [tuple(prompt) for prompt in prompt_ids]), None

    def _answers(self, model: Any, asked: list[tuple[int, ...]]) -> list[list[int]]:
        """An answer to each, which may be asked several times."""
        times = Counter(asked)
        found = decode(model, list(times), max(times.values()), self.generation_config, self.accelerator.device).tolist()
        left = {prompt: iter(answers) for prompt, answers in zip(times, found, strict=True)}
        return [self._until_end(next(left[prompt])) for prompt in asked]

    def _until_end(self, answer: list[int]) -> list[int]:
        """Tokens up to the first that ends a turn, that one included."""
        end = next((number for number, token in enumerate(answer) if token in self.eos_token_ids), len(answer) - 1)
        return answer[: end + 1]

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, logits_to_keep: int,
        batch_size: int | None = None, compute_entropy: bool = False, compute_aux_loss: bool = False, **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        packed = pack(input_ids, attention_mask, logits_to_keep)
        if packed is None:
            return super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy, compute_aux_loss, **kwargs
            )
        with self.accelerator.autocast():
            outputs = model(
                input_ids=packed.input_ids, attention_mask=packed.visible, position_ids=packed.positions, labels=packed.labels,
                fused_lm_head=True,
            )
        order = packed.rows.flatten().argsort()

        def by_row(values: torch.Tensor) -> torch.Tensor:
            """(U, S - 1), where column i scores token i + 1, to (B, T) in the order of the batch."""
            blocks = values[:, -packed.rows.size(1) * (logits_to_keep + 1) :].unflatten(1, (-1, logits_to_keep + 1))
            return blocks[:, :, 1:].flatten(0, 1)[order]

        self._unpacked(by_row)
        return by_row(outputs.log_probs), by_row(outputs.entropy) if compute_entropy else None, None

    def _unpacked(self, by_row: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """For subclasses that read more of a packed pass than TRL does: `by_row` maps (U, S - 1) to (B, T)."""
