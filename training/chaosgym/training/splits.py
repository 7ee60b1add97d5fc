"""Learning curves on what is held out: other seeds, applications, faults. Only looked at, never trained on or picked by."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from chaosgym.training.tasks import Source, Task, make_task
from chaosgym.training.validation import likeliest

if TYPE_CHECKING:
    from chaosgym.agents.prompt import PromptFormat
    from chaosgym.training.reward import Judge
    from chaosgym.training.run import Run

__all__ = ["Splits"]

_MOST = 96
"""Episodes of a split that are asked about: enough to see it move by a tenth."""


class Splits(TrainerCallback):
    """Asks the model about held-out episodes every so many steps, and logs the share of right answers by split."""

    def __init__(self, trainer: Any, judge: Judge, run: Run, sources: Sequence[Source], form: PromptFormat, every: int) -> None:
        """`sources` are drawn from where there are many, the same in every run."""
        self._trainer, self._judge, self._run, self._every = trainer, judge, run, every
        splits = sorted({source.truth.split for source in sources})
        self._tasks = {split: _draw([source for source in sources if source.truth.split == split], form) for split in splits}
        for tasks in self._tasks.values():
            judge.know(tasks)
        self._asked = -1

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Where the curves begin."""
        self._ask(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask again after so many steps, and after the last one."""
        if state.global_step % self._every == 0 or state.global_step == state.max_steps:
            self._ask(state.global_step)

    def _ask(self, step: int) -> None:
        if step == self._asked:
            return
        self._asked = step
        found: dict[str, float] = {}
        for split, tasks in self._tasks.items():
            rewards = [rollout.reward or 0.0 for rollout in likeliest(self._trainer, self._judge, tasks)]
            found[f"accuracy/{split}"] = round(sum(reward > self._judge.solved for reward in rewards) / len(rewards), 4)
        self._run.log({"step": step, **found})


def _draw(sources: Sequence[Source], form: PromptFormat) -> list[Task]:
    drawn = random.Random("splits").sample(sorted(sources, key=lambda source: source.id), min(_MOST, len(sources)))
    return [make_task(source, -2_000_000, form) for source in drawn]
