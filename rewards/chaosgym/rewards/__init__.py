"""The one scorer: training, environments and evaluation all ask `score`.

    gate -> correctness -> bounded extras

`docs/reward.md` has the terms, their weights and what they are proof against.
"""

from __future__ import annotations

from chaosgym.rewards.score import EXTRAS, WEIGHTS, Score, score

__all__ = ["EXTRAS", "WEIGHTS", "Score", "score"]
