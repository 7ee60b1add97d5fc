"""Pre-training on a corpus: skills, packing, shares and sizes."""

from __future__ import annotations

import random
import re
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from chaosgym.training.config import SIZES, PretrainConfig
from chaosgym.training.nano import make_nano
from chaosgym.training.packing import interleave, pack, padding_share, shortest_first
from chaosgym.training.skills import SKILLS, draw_exercises, make_exercise


def solve(question: str) -> str:
    """The answer, worked out from the question alone and by other means than those that made it."""
    head, _, body = question.partition(": ")
    words = body.split()
    if number := re.fullmatch(r"name (\d+) of", head):
        return words[int(number[1]) - 1]
    if head in ("most of", "least of"):
        ranked = sorted((float(pair.rpartition("=")[2]), pair.rpartition("=")[0]) for pair in words)
        return ranked[-1 if head == "most of" else 0][1]
    if head.startswith("count "):
        return str(sum(word == head.removeprefix("count ").removesuffix(" in") for word in words))
    if head.startswith("sort "):
        best = max if head == "sort down" else min
        left, out = [int(word) for word in words], list[str]()
        while left:
            left.remove(next_ := best(left))
            out.append(str(next_))
        return " ".join(out)
    if head == "odd one of":
        (alone,) = {word for word in words if words.count(word) == 1}
        return alone
    edges, _, walk = body.partition("; ")
    steps, _, at = walk.partition(" from ")
    following = dict(edge.split(" > ") for edge in edges.split(", "))
    for _ in range(int(steps)):
        at = following[at]
    return at


@given(st.sampled_from(sorted(SKILLS)), st.randoms(use_true_random=False))
def test_the_answer_is_right(skill: str, rng: random.Random) -> None:
    exercise = make_exercise(skill, random.Random(rng.random()))
    assert solve(exercise.question) == exercise.answer


def test_exercises_come_again_by_seed_alone() -> None:
    first = list(islice(draw_exercises(3), 60))
    assert first == list(islice(draw_exercises(3), 60))
    assert first != list(islice(draw_exercises(4), 60))
    assert {exercise.skill for exercise in first} == set(SKILLS)


class Letters:
    """A tokenizer of one token per character."""

    eos_token_id = 0

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [ord(c) for c in text]}


@given(st.lists(st.text("abc", max_size=30), max_size=20), st.integers(1, 12))
def test_packing_loses_nothing_but_the_end(texts: list[str], block: int) -> None:
    blocks = list(pack(Letters(), texts, block))
    whole = [token for text in texts for token in [*map(ord, text), 0]]
    packed = [token for each in blocks for token in each["input_ids"]]
    assert all(len(each["input_ids"]) == block and each["labels"] == each["input_ids"] for each in blocks)
    assert packed == whole[: len(whole) - len(whole) % block]
    assert padding_share(blocks, 4) == 0


def test_shares_are_kept_and_a_batch_is_of_one_kind() -> None:
    kinds = interleave((0.5, 0.4, 0.1), 320, 0, 8)
    assert [kinds.count(kind) for kind in range(3)] == [160, 128, 32]
    assert all(len(set(kinds[at : at + 8])) == 1 for at in range(0, 320, 8))
    assert interleave((1, 0, 0), 7, 0, 3) == [0] * 7


def test_padding_is_measured() -> None:
    rows = [{"input_ids": [1] * length, "labels": [1] * length} for length in (4, 2, 1, 1)]
    assert padding_share(rows, 2) == pytest.approx(2 / 10)


@given(st.lists(st.integers(1, 40), max_size=40), st.integers(1, 9))
def test_sequences_that_are_alike_are_computed_together(lengths: list[int], batch: int) -> None:
    rows = [{"input_ids": [number] * length, "labels": [1] * length} for number, length in enumerate(lengths)]
    ordered = shortest_first(rows, batch)
    for start in range(0, len(rows), batch):
        was, now = rows[start : start + batch], ordered[start : start + batch]
        assert sorted(row["input_ids"] for row in was) == sorted(row["input_ids"] for row in now), "another batch"
        assert [len(row["input_ids"]) for row in now] == sorted(len(row["input_ids"]) for row in was)
    for parts in range(1, batch + 1):
        if batch % parts == 0:
            assert padding_share(ordered, batch // parts) <= padding_share(rows, batch)


@pytest.mark.parametrize(("size", "millions"), [("nano", 5), ("micro", 20), ("small", 100)])
def test_a_size_is_what_it_says(size: str, millions: int) -> None:
    import torch

    class Words:
        eos_token_id, pad_token_id = 0, 1

        def __len__(self) -> int:
            return SIZES[size].vocabulary

    with torch.device("meta"):
        model = make_nano(SIZES[size], Words(), 0)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(millions * 1e6, rel=0.1)


@pytest.mark.parametrize(("changes", "said"), [
    ({"size": "micro", "nano": {"hidden": 64}}, "drop one of them"),
    ({"mix": {"corpus": 1}}, "names a folder"),
    ({"corpus": "c", "mix": {"corpus": 0}}, "names a folder"),
    ({"mix": {"reports": 0, "corpus": 0, "skills": 0}}, "all shares of mix are 0"),
    ({"block": 4096}, "does not fit into the model's 2048 positions"),
])
def test_what_does_not_agree_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        PretrainConfig.model_validate({"episodes": ["e"], "out": "o", **changes})


def test_reports_alone_are_read_where_nothing_is_said() -> None:
    plain = PretrainConfig(episodes=(Path("e"),), out=Path("o"))
    assert plain.shares == (1, 0, 0)
    assert plain.shape == plain.nano
    assert PretrainConfig(episodes=(Path("e"),), out=Path("o"), corpus=Path("c")).shares == (0.5, 0.4, 0.1)
