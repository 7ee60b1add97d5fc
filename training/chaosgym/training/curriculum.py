"""What is asked next: incidents that the model gets right about half of the time, as it is now.

    asked ──> right or wrong ──> success rate of the episode, its scenario, its label ──> what is asked next

With success rate p a group of answers teaches in proportion to p (1 - p). Rates are exponential averages, so they follow the
model as it improves: what it has mastered makes room for what was too hard. A share of all questions is drawn evenly
whatever the rates say, which keeps easy ones from being forgotten and shows when hard ones are no longer hard. Labels stay
alike often, as in `tasks.draw_tasks`, or a constant answer would pay.

Draws depend on the seed, their number and the rates alone, and all of it is in the checkpoint: a run that goes on asks what
it would have asked.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from chaosgym.agents.prompt import PromptFormat
from chaosgym.errors import InputError
from chaosgym.training.processes import gather
from chaosgym.training.tasks import Source, Task, in_turn, make_task

__all__ = ["Curriculum"]

_MEMORY = 0.7
"""How much of a rate stays when the next group of answers comes in."""
_UNKNOWN = 0.5
"""Rate of what nothing is known about: worth a try."""
_LEAST = 0.01
"""Weight of an episode that is always or never answered rightly."""
_EASY, _HARD = 0.9, 0.1
_MOST = 500
"""Episodes of a label, from which on the oldest makes room for one that comes in."""


class Curriculum(TrainerCallback, ExportableState):
    """Draws tasks by how often their episodes were answered rightly, and is saved with each checkpoint."""

    def __init__(
        self, sources: Sequence[Source], form: PromptFormat, seed: int, process: int = 0, processes: int = 1, evenly: float = 0.2,
        fresh: Callable[[], Sequence[Source]] = tuple,
    ) -> None:
        """`process` numbers one of `processes` that each ask their part of what one alone would ask.

        `evenly` is the share of questions that are drawn without a look at the rates; `fresh` says what has come in since it
        was last called.
        """
        self._fresh = fresh
        self._form, self._seed, self._process, self._processes, self._evenly = form, seed, process, processes, evenly
        self._by_label: dict[str, list[Source]] = {}
        for source in sources:
            self._by_label.setdefault(source.label, []).append(source)
        self._by_id = {source.id: source for source in sources}
        self._labels = in_turn(self._by_label)
        self._rates: dict[str, float] = {}
        self._drawn = 0

    def draw(self, count: int) -> list[Task]:
        """The next `count` tasks, after those of the processes before this one."""
        for source in self._fresh():
            self._take_in(source)
        first = self._drawn + self._process * count
        self._drawn += self._processes * count
        return [self._draw(number) for number in range(first, first + count)]

    def _take_in(self, source: Source) -> None:
        group = self._by_label.setdefault(source.label, [])
        group.append(source)
        self._by_id[source.id] = source
        if len(group) > _MOST:
            oldest = group.pop(0)
            del self._by_id[oldest.id]
            self._rates.pop(_keys(oldest)[0], None)
        self._labels = in_turn(self._by_label)

    def saw(self, source: Source, success: float) -> None:
        """Learn which share of a group of answers was right."""
        for key in _keys(source):
            before = self._rates.get(key)
            self._rates[key] = success if before is None else _MEMORY * before + (1 - _MEMORY) * success

    def saw_everywhere(self, found: Sequence[tuple[Source, float]]) -> None:
        """As `saw`, of what this process and all others found, so that their rates stay alike; all must call it."""
        for part in gather([(source.id, success) for source, success in found]):
            for name, success in part:
                self.saw(self._by_id[name], success)

    def rate(self, source: Source) -> float:
        """How often the model is expected to be right: of this episode, or else its scenario, or else its label."""
        return next((self._rates[key] for key in _keys(source) if key in self._rates), _UNKNOWN)

    def weight(self, source: Source) -> float:
        """Chance of an episode beside others of its label, where the rates decide."""
        rate = self.rate(source)
        return _LEAST + rate * (1 - rate)

    def figures(self) -> dict[str, float]:
        """For the log: the expected rate over all episodes, and the shares that are as good as mastered or out of reach."""
        rates = [self.rate(source) for group in self._by_label.values() for source in group]
        return {
            "curriculum/episodes": len(rates),
            "curriculum/success": round(sum(rates) / len(rates), 4),
            "curriculum/easy": round(sum(rate >= _EASY for rate in rates) / len(rates), 4),
            "curriculum/hard": round(sum(rate <= _HARD for rate in rates) / len(rates), 4),
        }

    def _draw(self, number: int) -> Task:
        rng = random.Random(f"question {self._seed} 0 {number}")
        group = self._by_label[self._label(number)]
        source = rng.choice(group) if rng.random() < self._evenly else rng.choices(group, [self.weight(source) for source in group])[0]
        return make_task(source, self._seed * 1_009 * 1_000_003 + number, self._form)

    def _label(self, number: int) -> str:
        """All labels in a new order before any turn begins again."""
        turn, place = divmod(number, len(self._labels))
        return random.Random(f"labels {self._seed} 0 {turn}").sample(self._labels, len(self._labels))[place]

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"args": {}, "attributes": {"drawn": self._drawn, "rates": dict(self._rates)}}

    def restore(self, kept: dict[str, Any]) -> None:
        """Go on from `state()`. Raises InputError when it is none."""
        try:
            self._drawn, self._rates = int(kept["attributes"]["drawn"]), {k: float(v) for k, v in kept["attributes"]["rates"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"trainer_state.json: no curriculum in it ({error!r}); the checkpoint is of another version: name another `out`"
            ) from error

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A run that goes on has its rates of before."""
        if state.global_step:
            self.restore(state.stateful_callbacks.get(type(self).__name__, {}))


def _keys(source: Source) -> tuple[str, str, str]:
    return f"episode {source.id}", f"scenario {source.truth.scenario}", f"label {source.label}"
