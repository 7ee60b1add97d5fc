"""Skills that a tiny model lacks: copy, compare, count, sort, find the odd one out, follow an edge.

    count vopra in: vopra dulem vopra sitak
    = 2

Names are drawn anew for each exercise, so that there is nothing to remember and everything to look up.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

__all__ = ["SKILLS", "Exercise", "draw_exercises", "make_exercise"]

_CONSONANTS, _VOWELS = "bcdfghjklmnpqrstvwxyz", "aeiou"


class Exercise(NamedTuple):
    """A question and its only right answer."""

    skill: str
    question: str
    answer: str

    @property
    def text(self) -> str:
        """As a model reads it."""
        return f"{self.question}\n= {self.answer}"


def draw_exercises(seed: int) -> Iterator[Exercise]:
    """Exercises without end; all skills alike often."""
    rng = random.Random(f"skills {seed}")
    while True:
        for skill in rng.sample(sorted(SKILLS), len(SKILLS)):
            yield make_exercise(skill, rng)


def make_exercise(skill: str, rng: random.Random) -> Exercise:
    """One of `SKILLS`."""
    return Exercise(skill, *SKILLS[skill](rng))


def _name(rng: random.Random) -> str:
    parts = [rng.choice(_CONSONANTS) + rng.choice(_VOWELS) for _ in range(rng.randint(2, 3))]
    tail = rng.choice(("", rng.choice(_CONSONANTS), f"-{rng.randint(0, 99)}"))
    return "".join(parts) + tail


def _names(rng: random.Random, count: int) -> list[str]:
    """All different."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[_name(rng)] = None
    return list(found)


def _numbers(rng: random.Random, count: int) -> list[int]:
    """All different, and of all sizes."""
    found: dict[int, None] = {}
    while len(found) < count:
        found[rng.randrange(10 ** rng.randint(1, 5))] = None
    return list(found)


def _copy(rng: random.Random) -> tuple[str, str]:
    names = _names(rng, rng.randint(2, 8))
    number = rng.randrange(len(names))
    return f"name {number + 1} of: {' '.join(names)}", names[number]


def _compare(rng: random.Random) -> tuple[str, str]:
    names, numbers = _names(rng, count := rng.randint(2, 6)), _numbers(rng, count)
    word, choose = rng.choice((("most", max), ("least", min)))
    rows = " ".join(f"{name}={number}" for name, number in zip(names, numbers, strict=True))
    return f"{word} of: {rows}", names[numbers.index(choose(numbers))]


def _count(rng: random.Random) -> tuple[str, str]:
    names = _names(rng, rng.randint(2, 4))
    drawn = rng.choices(names, k=rng.randint(3, 12))
    wanted = rng.choice(names)
    return f"count {wanted} in: {' '.join(drawn)}", str(drawn.count(wanted))


def _sort(rng: random.Random) -> tuple[str, str]:
    numbers = _numbers(rng, rng.randint(2, 7))
    word, down = rng.choice((("up", False), ("down", True)))
    return f"sort {word}: {' '.join(map(str, numbers))}", " ".join(map(str, sorted(numbers, reverse=down)))


def _odd(rng: random.Random) -> tuple[str, str]:
    same, odd = _names(rng, 2)
    names = [same] * rng.randint(2, 8)
    names.insert(rng.randint(0, len(names)), odd)
    return f"odd one of: {' '.join(names)}", odd


def _edge(rng: random.Random) -> tuple[str, str]:
    """A chain of calls in any order, followed for one to three steps from a start."""
    chain = _names(rng, rng.randint(4, 8))
    edges = [f"{a} > {b}" for a, b in pairwise(chain)]
    steps = rng.randint(1, 3)
    start = rng.randrange(len(chain) - steps)
    return f"edges: {', '.join(rng.sample(edges, len(edges)))}; {steps} from {chain[start]}", chain[start + steps]


SKILLS: dict[str, Callable[[random.Random], tuple[str, str]]] = {
    "compare": _compare, "copy": _copy, "count": _count, "edge": _edge, "odd": _odd, "sort": _sort,
}
"""By name; each draws a question and its answer."""
