"""How sure a model is: from the probabilities of its words to what it states."""

from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosgym.agents.certainty import Certainty, log_odds, state
from chaosgym.diagnosis import parse_diagnosis
from chaosgym.training.calibrate import fit

PROBABILITY = st.floats(0, 1)


@given(st.lists(st.floats(-20, 0), max_size=8), st.floats(-20, 0))
def test_another_word_makes_an_answer_no_likelier(logs: list[float], more: float) -> None:
    assert log_odds([*logs, more]) <= log_odds(logs) + 1e-9
    assert math.isfinite(log_odds(logs))


def test_odds_are_of_all_words_together() -> None:
    assert log_odds([math.log(0.5), math.log(0.5)]) == pytest.approx(math.log(0.25 / 0.75))
    assert Certainty(slope=1, intercept=0).probability(math.log(3)) == pytest.approx(0.75)
    assert Certainty(slope=0, intercept=0).probability(9.0) == 0.5


@given(st.lists(PROBABILITY, min_size=1, max_size=3), PROBABILITY)
def test_causes_keep_their_order_whatever_is_stated(stated: list[float], probability: float) -> None:
    causes = [{"component": f"c{n}", "fault": "process.crash", "probability": p} for n, p in enumerate(stated)]
    text = json.dumps({"verdict": "fault", "causes": causes, "evidence": ["c0 fails"]})
    before, after = parse_diagnosis(text), parse_diagnosis(state(text, probability))
    assert before is not None
    assert after is not None
    assert [c.component for c in after.ranked()] == [c.component for c in before.ranked()]
    assert after.ranked()[0].probability == round(probability, 3)
    assert after.evidence == before.evidence


HEALTHY = '{"verdict": "healthy", "causes": [], "evidence": []}'


@pytest.mark.parametrize("text", ["", "no JSON", HEALTHY, '{"verdict": "fault", "causes": []}'])
def test_an_answer_without_a_cause_stays_as_it_is(text: str) -> None:
    assert state(text, 0.3) == text


def test_slope_and_intercept_are_found_again() -> None:
    rng = random.Random(3)
    true = Certainty(slope=0.6, intercept=-0.8)
    odds = [rng.gauss(1, 2.5) for _ in range(4000)]
    right = [rng.random() < true.probability(value) for value in odds]
    found = fit(odds, right)
    assert found.slope == pytest.approx(true.slope, abs=0.08)
    assert found.intercept == pytest.approx(true.intercept, abs=0.12)


@given(st.lists(st.tuples(st.floats(-13.8, 13.8), st.booleans()), min_size=40, max_size=60))
def test_any_answers_give_something_that_can_be_stated(answers: list[tuple[float, bool]]) -> None:
    """Also where all are right, or odds tell the wrong way; on the whole as many are claimed as are right."""
    odds, right = [value for value, _ in answers], [hit for _, hit in answers]
    found = fit(odds, right)
    claimed = sum(found.probability(value) for value in odds) / len(odds)
    assert found.slope >= 0
    assert claimed == pytest.approx(sum(right) / len(right), abs=0.05)
