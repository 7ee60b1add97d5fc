import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosgym.evaluation.calibration import calibration_error
from chaosgym.evaluation.row import Row, make_row
from chaosgym.truth import Truth

NAMES = ("front-door", "billing-core")
CRASH = Truth.model_validate({
    "scenario": "x", "app": "shop", "verdict": "fault", "causes": [{"component": NAMES[1], "fault": "process.crash"}], "chain": NAMES,
})
CALM = Truth.model_validate({"scenario": "calm", "app": "shop", "verdict": "healthy", "causes": [], "chain": NAMES})


def said(probability: float, fault: str = "process.crash", component: str = NAMES[1], of: Truth = CRASH) -> Row:
    cause = {"component": component, "fault": fault, "probability": probability}
    return make_row("a", "e", of, NAMES, json.dumps({"verdict": "fault", "causes": [cause]}), 0.0)


def test_the_error_is_the_distance_between_what_is_stated_and_what_is_right() -> None:
    right, wrong = said(0.8), said(0.8, "process.hang")
    assert calibration_error([right] * 8 + [wrong] * 2) == pytest.approx(0.0)
    assert calibration_error([right] * 3 + [wrong] * 7) == pytest.approx(0.5)
    # bins do not make up for each other: over-confident in one, too modest in the other
    assert calibration_error([said(0.9, "process.hang"), said(0.1)]) == pytest.approx(0.9)


def test_a_healthy_verdict_is_certain_and_the_unreadable_states_nothing() -> None:
    healthy = json.dumps({"verdict": "healthy", "causes": []})
    assert calibration_error([make_row("a", "e", CALM, NAMES, healthy, 0.0)]) == 0.0
    assert calibration_error([make_row("a", "e", CRASH, NAMES, healthy, 0.0)]) == 1.0
    assert calibration_error([make_row("a", "e", CRASH, NAMES, "nonsense", 0.0)]) is None
    assert calibration_error([make_row("a", "e", CRASH, NAMES, "nonsense", 0.0), said(1.0)]) == 0.0


def test_the_family_counts_at_the_right_component_alone() -> None:
    assert said(1.0, "process.hang").family1
    assert not said(1.0, "network.loss").family1
    assert not said(1.0, "process.crash", NAMES[0]).family1
    assert not said(1.0, of=CALM).family1


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
def test_it_is_a_share(answers: Sequence[tuple[float, bool]]) -> None:
    found = calibration_error([said(p, "process.crash" if right else "process.hang") for p, right in answers])
    assert found is not None
    assert 0 <= found <= 1 + 1e-9
