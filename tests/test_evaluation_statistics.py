"""Statistics against closed forms, printed tables and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosgym.evaluation.statistics import Interval, clustered, mcnemar, paired_bootstrap, student_quantile, wilson


def test_wilson_matches_published_values() -> None:
    # Newcombe (1998), Statistics in Medicine 17:857, table I, method 3
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


@given(st.integers(0, 400), st.integers(1, 400))
def test_wilson_holds_the_rate_stays_in_bounds_and_mirrors(successes: int, n: int) -> None:
    successes = min(successes, n)
    found, mirrored = wilson(successes, n), wilson(n - successes, n)
    assert found is not None
    assert mirrored is not None
    assert 0 <= found.low <= successes / n <= found.high <= 1
    assert found.high - found.low > 0
    assert mirrored == pytest.approx((1 - found.high, 1 - found.low), abs=1e-12)


def test_wilson_without_trials_says_nothing_and_refuses_nonsense() -> None:
    assert wilson(0, 0) is None
    with pytest.raises(ValueError, match="5 successes in 4 trials"):
        wilson(5, 4)


@pytest.mark.parametrize(
    ("freedom", "expected"),
    [(1, 12.7062), (2, 4.30265), (3, 3.18245), (4, 2.77645), (9, 2.26216), (13, 2.16037), (30, 2.04227), (120, 1.97993), (5000, 1.95996)],
)
def test_student_quantiles_match_the_printed_table(freedom: int, expected: float) -> None:
    assert student_quantile(0.975, freedom) == pytest.approx(expected, rel=1e-5)


def test_student_median_is_zero_and_nonsense_is_refused() -> None:
    assert student_quantile(0.5, 7) == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="degrees of freedom"):
        student_quantile(0.2, 7)


def test_one_value_per_cluster_gives_the_classical_interval() -> None:
    values = [0.1, 0.5, 0.4, 0.9, 0.3]
    half = student_quantile(0.975, 4) * float(np.std(values, ddof=1)) / math.sqrt(5)
    mean = sum(values) / 5
    assert clustered(values, range(5)) == pytest.approx((mean - half, mean + half))


def test_copies_of_an_episode_add_no_certainty() -> None:
    once = clustered([1, 0, 0, 1, 1, 0], range(6))
    many = clustered([1, 0, 0, 1, 1, 0] * 50, [*range(6)] * 50)
    assert once is not None
    assert many == pytest.approx(once)
    naive = wilson(150, 300)
    assert naive is not None
    assert naive.high - naive.low < (once.high - once.low) / 5


def test_clusters_without_variation_or_company_say_nothing() -> None:
    assert clustered([1, 1, 1, 1], "aabb") is None
    assert clustered([1, 0, 1], "aaa") is None
    assert clustered([], []) is None
    assert clustered([1, 0, 1, 0], "abab") == clustered([0, 1, 0, 1], "baba")


def test_clustered_is_cut_to_bounds() -> None:
    assert clustered([1, 1, 1, 0], "abcd", bounds=Interval(0, 1)) == pytest.approx((0.0, 1.0))


def test_clustered_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        levels = np.clip(rng.normal(0.5, 0.15, size=14), 0, 1).repeat(10)
        found = clustered([float(v) for v in rng.random(140) < levels], [*np.arange(14).repeat(10)])
        hits += found is not None and found.low <= 0.5 <= found.high
    assert 0.92 <= hits / 400 <= 0.98


def test_mcnemar_is_the_binomial_test() -> None:
    assert mcnemar(0, 0) == 1
    assert mcnemar(3, 3) == 1
    assert mcnemar(0, 5) == pytest.approx(2 / 32)
    assert mcnemar(2, 10) == pytest.approx(2 * (1 + 12 + 66) / 4096)
    assert mcnemar(10, 2) == mcnemar(2, 10)
    assert mcnemar(5000, 5400) == pytest.approx(9.3e-5, rel=0.1)
    with pytest.raises(ValueError, match="not negative"):
        mcnemar(-1, 2)


def test_bootstrap_matches_the_normal_interval_of_many_differences() -> None:
    differences = [1.0] * 60 + [0.0] * 320 + [-1.0] * 20
    error = float(np.std(differences)) / 20
    assert paired_bootstrap(differences) == pytest.approx((0.1 - 1.96 * error, 0.1 + 1.96 * error), abs=0.004)


def test_bootstrap_repeats_itself_and_knows_clusters() -> None:
    differences = [1.0, 0.0, 0.0, -1.0] * 25
    assert paired_bootstrap(differences, seed=3) == paired_bootstrap(differences, seed=3)
    alike = paired_bootstrap(differences, [0, 1, 2, 3] * 25)
    single = paired_bootstrap(differences)
    assert alike is not None
    assert single is not None
    assert alike.high - alike.low > 3 * (single.high - single.low)


def test_bootstrap_of_nothing_says_nothing_and_of_equals_is_a_point() -> None:
    assert paired_bootstrap([]) is None
    assert paired_bootstrap([1.0, 0.0], ["a", "a"]) is None
    assert paired_bootstrap([0.25] * 10) == (0.25, 0.25)
