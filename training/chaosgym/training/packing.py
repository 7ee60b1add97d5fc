"""Packing: texts of any length, end to end, in blocks of one length, so that nothing is padded.

A text that ends within a block is followed by the next one after an end mark; one that does not goes on in the next block.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from chaosgym.training.supervised import Sequence as TokenSequence
from chaosgym.training.supervised import text_sequence

__all__ = ["interleave", "pack", "padding_share", "shortest_first"]


def pack(tokenizer: Any, texts: Iterable[str], block: int) -> Iterator[TokenSequence]:
    """Blocks of `block` tokens; what does not fill the last one is left out."""
    waiting: list[int] = []
    for text in texts:
        waiting += text_sequence(tokenizer, text)["input_ids"]
        for start in range(0, len(waiting) - block + 1, block):
            ids = waiting[start : start + block]
            yield {"input_ids": ids, "labels": list(ids)}
        del waiting[: len(waiting) - len(waiting) % block]


def interleave(shares: Sequence[float], count: int, seed: int, run: int) -> list[int]:
    """`count` numbers of kinds by their shares, in shuffled runs of `run` of one kind: those are a batch, and of one length."""
    runs = -(-count // run)
    bounds = [round(sum(shares[: kind + 1]) / sum(shares) * runs) for kind in range(len(shares))]
    drawn = [next(kind for kind, bound in enumerate(bounds) if number < bound) for number in range(runs)]
    random.Random(f"mix {seed}").shuffle(drawn)
    return [kind for kind in drawn for _ in range(run)][:count]


def shortest_first(rows: Sequence[TokenSequence], batch: int) -> list[TokenSequence]:
    """The same batches, each in order of length, so that sequences that are computed together are about alike."""
    starts = range(0, len(rows), batch)
    return [row for start in starts for row in sorted(rows[start : start + batch], key=lambda row: len(row["input_ids"]))]


def padding_share(rows: Sequence[TokenSequence], batch: int) -> float:
    """Share of the tokens of all batches that only fill them up."""
    lengths = [len(row["input_ids"]) for row in rows]
    whole = sum(max(lengths[at : at + batch]) * len(lengths[at : at + batch]) for at in range(0, len(lengths), batch))
    return 1 - sum(lengths) / whole if whole else 0.0
