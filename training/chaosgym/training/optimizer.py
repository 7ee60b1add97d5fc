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

__all__ = ["MuonAdamW", "Schedule", "make_optimizer", "make_schedule"]


class MuonAdamW(torch.optim.Optimizer):
    """Steps two optimizers as one; `param_groups` are those of both, so that schedules and checkpoints see all."""

    def __init__(self, matrices: list[nn.Parameter], others: list[nn.Parameter], muon_rate: float, adam_rate: float) -> None:
        """`matrices` must be two-dimensional."""
        muon = torch.optim.Muon(matrices, lr=muon_rate, weight_decay=0.01, adjust_lr_fn="original")
        adam = torch.optim.AdamW(others, lr=adam_rate, betas=(0.9, 0.95), weight_decay=0.0)
        self._parts: tuple[torch.optim.Optimizer, ...] = (muon, adam)
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Let the parts step with our groups, which a schedule changes, and with our state, which a checkpoint holds."""
        muon, adam = self._parts
        muon.param_groups, adam.param_groups = self.param_groups[:-1], self.param_groups[-1:]
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


def make_optimizer(model: nn.Module, muon_rate: float, adam_rate: float) -> torch.optim.Optimizer:
    """The optimizer for `model`'s trainable parameters; plain AdamW when `muon_rate` is 0 or nothing is a matrix."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [p for name, p in named if p.ndim == 2 and not any(word in name for word in ("embed", "lm_head"))]
    if not muon_rate or not matrices:
        return torch.optim.AdamW([p for _, p in named], lr=adam_rate, betas=(0.9, 0.95), weight_decay=0.0)
    chosen = {id(p) for p in matrices}
    return MuonAdamW(matrices, [p for _, p in named if id(p) not in chosen], muon_rate, adam_rate)


def make_schedule(optimizer: torch.optim.Optimizer, schedule: Schedule) -> LambdaLR:
    """Hang `schedule` on every group of `optimizer`."""
    return LambdaLR(optimizer, schedule)
