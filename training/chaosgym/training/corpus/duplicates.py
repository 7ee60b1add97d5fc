"""Texts that say the same again: exactly, or but for a few words (MinHash of five-word sequences, Broder 1997).

About 2 kB of memory per text kept.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

__all__ = ["Duplicates"]

_PERMUTATIONS = 128
_WORDS = 5


class Duplicates:
    """Remembers what it was shown."""

    def __init__(self, near: float, seed: int) -> None:
        """Texts that share `near` of their sequences are the same."""
        from datasketch import MinHash, MinHashLSH

        self._exact: set[bytes] = set()
        self._near = near
        self._index: Any = MinHashLSH(threshold=near, num_perm=_PERMUTATIONS)
        self._kept: list[Any] = []
        self._empty: Any = MinHash(num_perm=_PERMUTATIONS, seed=seed + 1)

    def reason_against(self, text: str) -> str:
        """`exact duplicate` or `near duplicate` of a text before it; an empty string for a new one, which is remembered."""
        words = re.findall(r"\w+", text.lower())
        key = hashlib.sha256(text.encode()).digest()
        if key in self._exact:
            return "exact duplicate"
        self._exact.add(key)
        print_ = self._empty.copy()
        print_.update_batch(sorted({" ".join(words[i : i + _WORDS]).encode() for i in range(max(len(words) - _WORDS + 1, 1))}))
        # The index finds candidates; the estimate itself decides, or half of what it finds near the threshold would be too far.
        if any(self._kept[number].jaccard(print_) >= self._near for number in self._index.query(print_)):
            return "near duplicate"
        self._index.insert(len(self._kept), print_)
        self._kept.append(print_)
        return ""
