"""What PPO computes from rewards and values, as functions of tensors (B, T): one row per answer, one column per token.

Only tokens that the model wrote count. `mask` is 1 there and 0 at padding and at what a tool said, and the token that
follows one of the model's is the next that the model wrote.

    rewards, values ──> advantages ──┬──> whiten ──> policy loss (TRL's)
                                     └──> + values = returns ──> value loss
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

__all__ = ["ValueLoss", "advantages", "at_the_end", "explained_variance", "value_loss", "whiten"]


def at_the_end(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Rewards per token, (B, T): `scores` (B,) at the last token of each row that the model wrote, 0 elsewhere."""
    rewards = torch.zeros(mask.shape, dtype=scores.dtype, device=scores.device)
    last = (mask * torch.arange(1, mask.size(1) + 1, device=mask.device)).argmax(1)
    rewards[torch.arange(mask.size(0), device=mask.device), last] = scores
    return rewards * mask


def advantages(
    rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, discount: float, trace: float, by_turn: bool = False
) -> torch.Tensor:
    """Generalized advantage estimates, (B, T), 0 where `mask` is (Schulman et al. 2016, arXiv:1506.02438, eq. 16).

    A_t = sum over l of (discount * trace)^l * delta_(t+l), with delta_t = r_t + discount * V_(t+1) - V_t and V = 0 after
    the last token. `values` (B, T) are of the state before each token. `by_turn` has `trace` fade from one turn to the
    next alone, not within one: between turns stands what the model did not write.
    """
    found = torch.zeros_like(values)
    fading = torch.full_like(values, discount * trace)
    if by_turn:
        fading[:, :-1][mask[:, 1:].bool()] = discount
    following, ahead = torch.zeros_like(values[:, 0]), torch.zeros_like(values[:, 0])
    for t in reversed(range(values.size(1))):
        there = mask[:, t].bool()
        delta = rewards[:, t] + discount * following - values[:, t]
        ahead = torch.where(there, delta + fading[:, t] * ahead, ahead)
        following = torch.where(there, values[:, t], following)
        found[:, t] = torch.where(there, ahead, 0.0)
    return found


def whiten(
    values: torch.Tensor, mask: torch.Tensor, over_all: Callable[[torch.Tensor], torch.Tensor] = lambda sums: sums
) -> torch.Tensor:
    """`values` (B, T) shifted and scaled to mean 0 and deviation 1 over `mask`, 0 elsewhere.

    `over_all` adds up sums over processes, so that all of them shift and scale alike.
    """
    count, total = over_all(torch.stack([mask.sum().to(values.dtype), (values * mask).sum()])).unbind()
    mean = total / count.clamp(min=1)
    squares = over_all((((values - mean) * mask) ** 2).sum()[None])[0]
    return (values - mean) * mask / ((squares / count.clamp(min=1)).sqrt() + 1e-8)


class ValueLoss(NamedTuple):
    """Of one batch, over the tokens of its mask."""

    total: torch.Tensor
    """Sum over tokens, with its gradient; a scalar."""
    clipped: torch.Tensor
    """Share of the tokens at which the clipped error was the larger one, so that they taught nothing; a scalar."""


def value_loss(values: torch.Tensor, old: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor, clip: float) -> ValueLoss:
    """Half the squared error of `values` against `returns`, the larger one of as it is and with `values` held to `old` +- `clip`.

    All (B, T); `old` are the values at the time of the rollout. As in the code that came with Schulman et al. 2017
    (arXiv:1707.06347): a value that has moved far enough towards its return since then is left alone until the next rollout.
    """
    held = old + (values - old).clamp(-clip, clip)
    free, bound = (values - returns) ** 2, (held - returns) ** 2
    total = 0.5 * (torch.max(free, bound) * mask).sum()
    return ValueLoss(total, ((bound > free) * mask).sum() / mask.sum().clamp(min=1))


def explained_variance(
    values: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor, over_all: Callable[[torch.Tensor], torch.Tensor] = lambda sums: sums
) -> float:
    """How much of the variance of `returns` the `values` foretell, over `mask`: 1 all, 0 none, less than 0 worse than a constant.

    NaN where returns do not differ. `over_all` adds up sums over processes.
    """
    there = mask.bool()
    spread, missed = (_variance(found[there].double(), over_all) for found in (returns, returns - values))
    return float("nan") if spread < 1e-12 else float(1 - missed / spread)


def _variance(found: torch.Tensor, over_all: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    count, total = over_all(torch.stack([found.new_tensor(found.numel()), found.sum()])).unbind()
    return over_all(((found - total / count) ** 2).sum()[None])[0] / count
