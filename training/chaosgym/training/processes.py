"""Several processes that train one model, as `torchrun` starts them; one that was started alone is the first of one.

    batch ──cut──> each process its part ──> gradients, averaged ──> the same step everywhere
                   the first alone writes, and asks who stands outside; the others wait and are told

What decides how training goes on must be known to all alike, or some wait for ever for what others never do.
"""

from __future__ import annotations

import atexit
import gc
import hashlib
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar, cast

from chaosgym.errors import ChaosgymError, InputError

__all__ = ["count", "first", "gather", "merge", "rank", "refuse_difference", "share", "wait"]

T = TypeVar("T")

_PATIENCE = timedelta(hours=2)
"""How long the others wait for what the first does alone, such as asking a teacher."""


def count() -> int:
    """How many there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which of them this one is, from 0."""
    return int(os.environ.get("RANK", "0"))


@cache
def _meeting() -> Any:
    """Where processes talk: they meet as their trainers would have them, by NCCL on GPUs, which is for tensors; words go by gloo."""
    import torch
    from accelerate import PartialState

    PartialState(cpu=not torch.cuda.is_available())
    atexit.register(_part)
    return torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)


def _part() -> None:
    """End the threads by which processes talk: where the interpreter ends before them it is aborted now and then, with all done."""
    from torch import distributed

    _meeting.cache_clear()  # or its threads outlive what is destroyed here
    if distributed.is_initialized():
        distributed.destroy_process_group()
    gc.collect()


def wait() -> None:
    """Go on when all have come here."""
    gather(())


def gather(mine: Sequence[T]) -> list[list[T]]:
    """What each process has, by rank."""
    if count() == 1:
        return [list(mine)]
    from torch import distributed

    found: list[list[T] | None] = [None] * count()
    distributed.all_gather_object(found, list(mine), _meeting())
    return cast("list[list[T]]", found)


def first(work: Callable[[], T]) -> T:
    """What `work` returns in the first process, in all of them; an error of ours there is raised in all."""
    if count() == 1:
        return work()
    told: list[tuple[T | None, ChaosgymError | None]] = []
    if rank() == 0:
        try:
            told = [(work(), None)]
        except ChaosgymError as error:
            told = [(None, error)]
    ((found, refused),) = gather(told)[0]
    if refused is not None:
        raise refused
    return cast("T", found)


def share(items: Sequence[T]) -> list[T]:
    """This process's part of `items`; all parts are of one length, so a few items may be in two."""
    size = -(-len(items) // count())
    return [items[(rank() + number * count()) % len(items)] for number in range(size)]


def merge(part: Sequence[T], total: int) -> list[T]:
    """What became of the `total` items of `share`, in their order."""
    parts = gather(part)
    return [parts[number % count()][number // count()] for number in range(total)]


def refuse_difference(what: str, value: object) -> None:
    """Raise InputError unless `value`, whose repr says all, is the same in all processes."""
    digests = gather([hashlib.sha256(repr(value).encode()).hexdigest()])
    if len({digest for (digest,) in digests}) > 1:
        raise InputError(f"the {count()} processes have different {what}: give all nodes the same folders, packages and configuration")
