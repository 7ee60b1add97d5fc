"""Muon for the matrices inside the layers, AdamW for embeddings, norms and the rest, behind one optimizer.

Muon (Jordan 2024, `torch.optim.Muon`) orthogonalises each update; on small transformers it needs about half the samples
of AdamW. A trainer knows one optimizer with parameter groups, a schedule and a state: this is one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from chaosgym.training import processes

__all__ = ["MuonAdamW", "Schedule", "make_optimizer", "make_schedule"]


class MuonAdamW(torch.optim.Optimizer):
    """Steps two optimizers as one; `param_groups` are those of both, so that schedules and checkpoints see all."""

    def __init__(self, matrices: list[nn.Parameter], others: list[dict[str, Any]], muon_rate: float) -> None:
        """`matrices` must be two-dimensional; `others` are parameter groups for AdamW."""
        muon = torch.optim.Muon(matrices, lr=muon_rate, weight_decay=0.01, adjust_lr_fn="original")
        self._parts: tuple[torch.optim.Optimizer, ...] = (muon, _adamw(others))
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Let the parts step with our groups, which a schedule changes, and with our state, which a checkpoint holds."""
        muon, adam = self._parts
        muon.param_groups, adam.param_groups = self.param_groups[:1], self.param_groups[1:]
        muon.state = adam.state = self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Move all parameters that have a gradient."""
        loss = closure() if closure else None
        for part in self._parts:
            part.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore both parts."""
        super().load_state_dict(state_dict)
        self._share()


class Schedule:
    """Factor of the learning rates: up over the warm-up, down to a tenth at the end; the end comes by steps or by the clock.

    What is kept in `__dict__` goes into checkpoints, so that a resumed run knows how much time it has used.
    """

    __slots__ = ("__dict__", "_mark")

    def __init__(self, steps: int, warmup: float, seconds: float | None) -> None:
        """`steps` in all, `warmup` as a share of the run, `seconds` the limit if any."""
        self.steps, self.warmup, self.seconds, self.elapsed = steps, warmup, seconds, 0.0
        self._mark: float | None = None

    def __call__(self, step: int) -> float:
        """The factor before step `step`; also moves the clock on."""
        now = time.monotonic()
        self.elapsed += now - self._mark if self._mark is not None else 0.0
        self._mark = now
        if self.seconds:  # by one clock, or processes would end at different steps
            self.elapsed = processes.first(lambda: self.elapsed)
        done = self.progress(step)
        rise = min(1.0, (done + 1 / self.steps) / self.warmup) if self.warmup else 1.0
        return rise * max(0.1, 1.0 - done)

    def progress(self, step: int) -> float:
        """How much of the run is over, 0 to 1, by steps or time, whichever is further."""
        by_clock = self.elapsed / self.seconds if self.seconds else 0.0
        return min(1.0, max(step / self.steps, by_clock))

    @property
    def out_of_time(self) -> bool:
        """Whether the limit is reached."""
        return self.seconds is not None and self.elapsed >= self.seconds


def make_optimizer(model: nn.Module, muon_rate: float, adam_rate: float, value_rate: float | None = None) -> torch.optim.Optimizer:
    """The optimizer for `model`'s trainable parameters; plain AdamW when `muon_rate` is 0 or nothing is a matrix.

    A value head is AdamW's, with a rate of its own where `value_rate` is given.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    head = [p for name, p in named if "value_head" in name]
    matrices = [p for name, p in named if p.ndim == 2 and not any(word in name for word in ("embed", "lm_head", "value_head"))]
    chosen = {id(p) for p in (*head, *(matrices if muon_rate else ()))}
    others: list[dict[str, Any]] = [{"params": [p for _, p in named if id(p) not in chosen], "lr": adam_rate}]
    if head:
        others.append({"params": head, "lr": value_rate or adam_rate})
    return MuonAdamW(matrices, others, muon_rate) if muon_rate and matrices else _adamw(others)


def _adamw(groups: list[dict[str, Any]]) -> torch.optim.AdamW:
    return torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0)


def make_schedule(optimizer: torch.optim.Optimizer, schedule: Schedule) -> LambdaLR:
    """Hang `schedule` on every group of `optimizer`."""
    return LambdaLR(optimizer, schedule)
