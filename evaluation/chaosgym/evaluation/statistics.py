"""What a number measured on a few hundred episodes says about the true one.

    wilson             interval of a rate, episodes independent
    clustered          interval of a mean, episodes of one scenario alike
    mcnemar            are two agents different on the same episodes: exact p
    paired_bootstrap   interval of the difference between two agents on the same episodes
    pass_at_k          how likely one of k tries is right

All intervals are of 95 % unless told otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEVEL", "Interval", "clustered", "mcnemar", "paired_bootstrap", "pass_at_k", "student_quantile", "wilson"]

LEVEL = 0.95
"""Share of intervals that hold the true value."""
_NORMAL_FROM = 1000
"""Degrees of freedom from which Student's distribution is taken for the normal one (they differ by less than 0.2 %)."""
_CHUNK = 2_000_000


class Interval(NamedTuple):
    """Ends of a confidence interval."""

    low: float
    high: float


def wilson(successes: int, n: int, level: float = LEVEL) -> Interval | None:
    """Interval of a rate of `successes` in `n` independent trials (Wilson 1927); None without trials.

    It stays within 0 and 1 and has a width even at the ends, where the textbook one collapses.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials: successes are 0 to n")
    if n == 0:
        return None
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    rate = successes / n
    middle = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (rate * (1 - rate) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    low = 0.0 if successes == 0 else middle - half
    high = 1.0 if successes == n else middle + half
    return Interval(low, high)


def clustered(
    values: Sequence[float], clusters: Sequence[Hashable], level: float = LEVEL, bounds: Interval | None = None
) -> Interval | None:
    """Interval of the mean of `values` when those of one cluster are alike; cut to `bounds`.

    The sandwich estimator with the correction for few clusters, G / (G - 1), and Student's t with G - 1 degrees of
    freedom (Liang & Zeger 1986; Cameron & Miller 2015, section VI). With one value per cluster it is the classical
    interval. None where it says nothing: fewer than two clusters, or no variation between them.
    """
    members: dict[Hashable, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        members.setdefault(cluster, []).append(value)
    count = len(members)
    if count < 2:
        return None
    mean = math.fsum(values) / len(values)
    squares = math.fsum(math.fsum(v - mean for v in group) ** 2 for group in members.values())
    error = math.sqrt(count / (count - 1) * squares) / len(values)
    if error < 1e-12:
        return None
    half = student_quantile((1 + level) / 2, count - 1) * error
    low, high = mean - half, mean + half
    return Interval(low, high) if bounds is None else Interval(max(low, bounds.low), min(high, bounds.high))


def student_quantile(probability: float, freedom: int) -> float:
    """The value that Student's t stays below with `probability` (above one half), by bisection of the exact distribution."""
    if not 0.5 <= probability < 1 or freedom < 1:
        raise ValueError(f"probability {probability} and {freedom} degrees of freedom: takes 0.5 to 1 and at least 1")
    if freedom >= _NORMAL_FROM:
        return NormalDist().inv_cdf(probability)
    low, high = 0.0, 1.0
    while _student_inside(high, freedom) < 2 * probability - 1:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_inside(middle, freedom) < 2 * probability - 1 else (low, middle)
    return (low + high) / 2


def _student_inside(t: float, freedom: int) -> float:
    """Probability of |T| < t for whole degrees of freedom (Abramowitz & Stegun 1964, 26.7.3 and 26.7.4)."""
    angle = math.atan2(t, math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for k in range(1 + odd, freedom, 2):  # k: power of the cosine's next factor, plus one
        total += term
        term *= cosine * cosine * k / (k + 1)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p that two agents are right equally often, from the episodes on which one alone was right.

    The binomial test at one half (McNemar 1947 in its exact form); 1 when they never differ.
    """
    if only_a < 0 or only_b < 0:
        raise ValueError(f"{only_a} and {only_b} episodes: counts are not negative")
    n = only_a + only_b
    tail = sum(math.comb(n, k) for k in range(min(only_a, only_b) + 1))
    return min(1.0, 2 * tail / 2**n)


def pass_at_k(n: int, right: int, k: int) -> float | None:
    """How likely one of `k` tries is right at least, when `right` of `n` were; None with fewer than `k` tries.

    1 - C(n - right, k) / C(n, k): the share of all choices of k among the n tries that hold a right one, which is
    unbiased, where 1 - (1 - right / n)^k is too low (Chen et al. 2021, "Evaluating Large Language Models Trained on Code", equation 1).
    """
    if not 0 <= right <= n or k < 1:
        raise ValueError(f"{right} of {n} tries right, k {k}: right is 0 to n, and k at least 1")
    return 1 - math.comb(n - right, k) / math.comb(n, k) if k <= n else None


def paired_bootstrap(
    differences: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    *,
    draws: int = 10_000,
    seed: int = 0,
    level: float = LEVEL,
) -> Interval | None:
    """Percentile interval of the mean of paired `differences` (Efron & Tibshirani 1993), the same for the same seed.

    Episodes are drawn again with replacement, or whole clusters where `clusters` says which belong together.
    None without differences, or with fewer than two clusters.
    """
    sums, sizes = _totals(differences, clusters)
    units = len(sums)
    if units == 0 or (clusters is not None and units < 2):
        return None
    rng = np.random.default_rng(seed)
    means: list[NDArray[np.float64]] = []
    left = draws
    while left > 0:
        some = min(left, max(1, _CHUNK // units))
        picks = rng.integers(units, size=(some, units))
        means.append(sums[picks].sum(axis=1) / sizes[picks].sum(axis=1))
        left -= some
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def _totals(differences: Sequence[float], clusters: Sequence[Hashable] | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum and size of each unit that is drawn."""
    values = np.asarray(differences, dtype=np.float64)
    if clusters is None:
        return values, np.ones_like(values)
    members: dict[Hashable, list[int]] = {}
    for i, (_, cluster) in enumerate(zip(differences, clusters, strict=True)):
        members.setdefault(cluster, []).append(i)
    groups = [values[of] for of in members.values()]
    return np.array([g.sum() for g in groups]), np.array([float(len(g)) for g in groups])
