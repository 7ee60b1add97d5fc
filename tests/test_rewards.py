"""The scorer: levels, bounds, invariances, and what must never pay."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaosgym.diagnosis import Cause, Diagnosis
from chaosgym.rewards import EXTRAS, WEIGHTS, score
from chaosgym.taxonomy import FAULT_TYPES
from chaosgym.truth import TrueCause, Truth

NAMES = ("till-web", "cartd", "ledger-api", "stock", "stock-db", "cache-7")
LABELS = tuple(FAULT_TYPES)


def truth(*causes: tuple[str, str], **changes: Any) -> Truth:
    chain = (*dict.fromkeys(component for component, _ in causes), "till-web") if causes else ()
    return Truth(
        scenario="s", app="shop", verdict="fault" if causes else "healthy", chain=chain,
        causes=tuple(TrueCause(component=c, fault=f) for c, f in causes), **changes,
    )


def answer(*causes: tuple[str, str, float], evidence: tuple[str, ...] = ()) -> Diagnosis:
    stated = tuple(Cause(component=c, fault=f, probability=p) for c, f, p in causes)
    return Diagnosis(verdict="fault" if causes else "healthy", causes=stated, evidence=evidence)


def total(given_answer: str | Diagnosis | None, of: Truth) -> float:
    value = score(given_answer, of, NAMES).total
    assert value is not None
    return value


@st.composite
def truths(draw: st.DrawFn) -> Truth:
    return truth(*draw(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(LABELS)), max_size=3, unique=True)))


@st.composite
def answers(draw: st.DrawFn, near: Truth | None = None) -> Diagnosis:
    names = st.sampled_from([*(c.component for c in near.causes), *NAMES] if near else NAMES)
    labels = st.sampled_from([*(c.fault for c in near.causes), *LABELS] if near else LABELS)
    causes = draw(st.lists(st.tuples(names, labels, st.floats(0, 1)), max_size=3))
    evidence = draw(st.lists(st.one_of(st.sampled_from(NAMES), st.text(max_size=20)), max_size=4))
    return answer(*causes, evidence=tuple(evidence))


def test_weights_sum_to_one_and_extras_are_lighter_than_the_smallest_step() -> None:
    assert sum(WEIGHTS.values()) == pytest.approx(1.0)
    with_three_causes = min(WEIGHTS["family"], 0.25 * WEIGHTS["component"], 0.25 * (WEIGHTS["family"] + WEIGHTS["fault"])) / 3
    assert sum(WEIGHTS[name] for name in EXTRAS) < with_three_causes


def test_levels_rise_with_what_is_right() -> None:
    of = truth(("stock", "resource.cpu"))
    ladder = [
        "no json at all",
        answer(),
        answer(("cartd", "process.crash", 0.0)),
        answer(("cartd", "resource.memory_leak", 0.0)),
        answer(("stock", "process.crash", 1.0)),
        answer(("stock", "resource.memory_leak", 1.0)),
        answer(("stock", "resource.cpu", 1.0), evidence=("stock is busy",)),
    ]
    totals = [total(step, of) for step in ladder]
    assert totals == sorted(totals)
    assert len(set(totals)) == len(totals)
    assert totals[0] == 0
    assert totals[-1] == 1


NOBODY = '{"verdict": "fault", "causes": [{"component": "nobody", "fault": "process.crash"}]}'


@pytest.mark.parametrize("bad", [None, "", "{", "[]", '{"verdict": "fault"}', NOBODY])
def test_unreadable_answers_and_components_that_do_not_exist_score_the_floor(bad: str | None) -> None:
    scored = score(bad, truth(("stock", "process.crash")), NAMES)
    assert scored.total == 0
    assert scored.reason
    assert set(scored.terms) == set(WEIGHTS)


def test_one_right_answer_beats_a_list_that_holds_it_later() -> None:
    of = truth(("stock", "resource.cpu"))
    wrong = [("cartd", "resource.cpu", 0.9), ("ledger-api", "resource.cpu", 0.8)]
    single, listed = answer(("stock", "resource.cpu", 0.5)), answer(*wrong, ("stock", "resource.cpu", 0.7))
    assert total(listed, of) < total(single, of) - 0.3
    first = answer(("stock", "resource.cpu", 1.0), *((c, f, 0.6) for c, f, _ in wrong))
    assert total(first, of) < total(answer(("stock", "resource.cpu", 1.0)), of)


def test_several_true_causes_count_whatever_their_order() -> None:
    of = truth(("stock", "resource.cpu"), ("cartd", "process.hang"))
    both = [answer(("stock", "resource.cpu", p), ("cartd", "process.hang", q), evidence=("cartd",)) for p, q in [(1.0, 0.9), (0.9, 1.0)]]
    assert total(both[0], of) == pytest.approx(total(both[1], of))
    assert total(answer(("stock", "resource.cpu", 1.0)), of) < total(both[0], of)
    assert total(answer(("stock", "resource.cpu", 1.0), ("stock", "resource.cpu", 1.0)), of) < total(both[0], of)


def test_an_honest_probability_scores_best_in_expectation() -> None:
    right, wrong = truth(("stock", "resource.cpu")), truth(("cartd", "process.hang"))

    def expected(stated: float, actual: float) -> float:
        given_answer = answer(("stock", "resource.cpu", stated))
        return actual * total(given_answer, right) + (1 - actual) * total(given_answer, wrong)

    stated = [i / 20 for i in range(21)]
    for actual in (0.2, 0.5, 0.9):
        assert max(stated, key=lambda p: expected(p, actual)) == pytest.approx(actual)


def test_an_invisible_fault_is_unscorable() -> None:
    scored = score(answer(("stock", "resource.cpu", 1.0)), truth(("stock", "resource.cpu"), visible=False), NAMES)
    assert scored.total is None
    assert scored.reason


def test_constant_random_and_stuffed_answers_do_not_beat_the_prior() -> None:
    cases = [truth(), *(truth((NAMES[i % len(NAMES)], label)) for i, label in enumerate(LABELS))]
    draw = random.Random(0)

    def mean(respond: Any) -> float:
        return sum(total(respond(), of) for of in cases) / len(cases)

    shotgun = answer(*((name, label, 0.4) for name, label in zip(NAMES[:3], LABELS[:3], strict=True)), evidence=NAMES)
    assert mean(lambda: answer(evidence=NAMES)) < 0.15
    assert max(mean(lambda c=c, f=f: answer((c, f, 1.0), evidence=NAMES)) for c, f in itertools.product(NAMES, LABELS)) < 0.4
    assert mean(lambda: shotgun) < 0.4
    assert mean(lambda: answer((draw.choice(NAMES), draw.choice(LABELS), 1.0))) < 0.4


@given(st.data(), truths())
def test_no_extras_outrank_a_more_correct_answer(data: st.DataObject, of: Truth) -> None:
    one, other = (score(data.draw(answers(of)), of, NAMES) for _ in range(2))
    assert one.total is not None
    assert other.total is not None
    if one.correctness > other.correctness + 1e-9:
        assert one.total > other.total


@given(st.one_of(st.text(), answers().map(Diagnosis.to_json), answers().map(lambda a: f"so: {a.to_json()} done")), truths())
def test_any_text_gives_a_bounded_total(text: str, of: Truth) -> None:
    assert 0 <= total(text, of) <= 1
    assert all(0 <= value <= 1 for value in score(text, of, NAMES).terms.values())


@settings(max_examples=60)
@given(st.data(), truths(), st.randoms())
def test_order_of_keys_and_evidence_and_white_space_change_nothing(data: st.DataObject, of: Truth, shuffle: random.Random) -> None:
    given_answer = data.draw(answers(of))

    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            items = list(value.items())
            shuffle.shuffle(items)
            return {key: shuffled(inner) for key, inner in items}
        return [shuffled(inner) for inner in value] if isinstance(value, list) else value

    document = json.loads(given_answer.to_json())
    shuffle.shuffle(document["evidence"])
    text = "\n" + json.dumps(shuffled(document), indent=shuffle.choice([None, 1, 4])) + "  \n"
    assert score(text, of, NAMES) == score(given_answer, of, NAMES)


@given(truths().filter(lambda of: len(of.causes) == 1))
def test_the_whole_truth_scores_one(of: Truth) -> None:
    causes = tuple((c.component, c.fault, 1.0) for c in of.causes)
    assert total(answer(*causes, evidence=of.chain), of) == pytest.approx(1.0)


def test_the_healthy_answer_scores_one_only_where_nothing_is_broken() -> None:
    assert total(answer(), truth()) == pytest.approx(1.0)
    assert total(answer(("stock", "process.crash", 0.1)), truth()) < 0.1
    assert total(answer(), truth(("stock", "process.crash"))) < 0.1
