"""A share that is asked for, and whether so few seeds can tell that it is missed."""

from __future__ import annotations

import math

__all__ = ["ENOUGH", "falls_short"]

ENOUGH = 5
"""Seeds from which on a share is taken as it is."""
_SELDOM = 0.05


def falls_short(count: int, n: int, share: float) -> bool:
    """Whether `count` of `n` is less than `share`.

    Of fewer than five only a count is that chance would give in less than 5 % of the times were the share the true
    one (binomial distribution): a quick look at two or three seeds finds what is broken, and leaves the rest to five.
    """
    if n >= ENOUGH:
        return count < share * n - 1e-9
    return math.fsum(math.comb(n, i) * share**i * (1 - share) ** (n - i) for i in range(count + 1)) < _SELDOM
