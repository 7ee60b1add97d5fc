"""A GRPOTrainer that asks what a curriculum draws, and asks something else where all answers earned the same.

    curriculum ──> incidents ──> answers ──┬── rewards differ ──────────────────────────> batch
                       └─── rates <── rewards └── all alike: another incident, within bounds ──┘

TRL takes its questions from a data set that is fixed before the first step; here its rows are placeholders. A group whose
rewards are all equal teaches nothing, so spare incidents are answered in its place (dynamic sampling of DAPO, Yu et al. 2025,
arXiv:2503.14476) until rewards differ everywhere or as many were asked as `oversample` allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from trl.trainer.grpo_trainer import GRPOTrainer

from chaosgym.training.curriculum import Curriculum
from chaosgym.training.reward import Judge
from chaosgym.training.tasks import Source, Task

__all__ = ["AskingGRPOTrainer", "alike"]


def alike(rewards: Sequence[float | None]) -> bool:
    """Whether a group teaches nothing: its rewards are equal, but for those that may not be scored."""
    scored = [reward for reward in rewards if reward is not None]
    return not scored or max(scored) - min(scored) < 1e-6


class AskingGRPOTrainer(GRPOTrainer):
    """GRPOTrainer whose questions come from a curriculum, once `ask` has been called; without, as in TRL."""

    _curriculum: Curriculum | None = None

    def ask(self, curriculum: Curriculum, judge: Judge, oversample: float) -> None:
        """From now on ask what `curriculum` draws; `oversample` bounds the spare incidents, as a share of those of a batch."""
        self._curriculum, self._judge, self._oversample = curriculum, judge, oversample
        self._tasks: list[Task] = []
        self._size = self.num_generations or 1

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if self._curriculum is not None:
            self._tasks = self._draw(len(inputs) // self._size)
            inputs = [self._row(task) for task in self._tasks for _ in range(self._size)]
            self._rows = inputs
        return super()._generate_and_score_completions(inputs)

    def _generate(self, prompts: list[Any]) -> Any:
        made = super()._generate(prompts)
        if self._curriculum is None:
            return made
        rewards = self._learn(self._tasks, made)
        dull = [number for number, group in enumerate(rewards) if alike(group)]
        share, left = len(dull) / len(rewards), int(self._oversample * len(rewards))
        while left and (most := self._most(len(dull))):
            count = min(left, most)
            left -= count
            dull = self._again(dull, count, prompts, made)
        self._log_metric("zero_variance/share", share)
        self._log_metric("zero_variance/replaced", share - len(dull) / len(rewards))
        for name, value in self._curriculum.figures().items():
            self._log_metric(name, value)
        return made

    def _again(self, dull: list[int], count: int, prompts: list[Any], made: Any) -> list[int]:
        """Answer `count` spare incidents, put those whose rewards differ in place of dull groups, and say which stay dull."""
        tasks = self._draw(count)
        spare = super()._generate([task.messages for task in tasks for _ in range(self._size)])
        fresh = [number for number, group in enumerate(self._learn(tasks, spare)) if not alike(group)]
        for to, source in zip(dull, fresh, strict=False):
            self._put(to, source, tasks[source], prompts, made, spare)
        return dull[len(fresh) :]

    def _put(self, to: int, source: int, task: Task, prompts: list[Any], made: Any, spare: Any) -> None:
        """Let group `to` of the batch be group `source` of the spare ones, in everything that TRL goes on with."""
        size = self._size
        here, there = slice(to * size, (to + 1) * size), slice(source * size, (source + 1) * size)
        self._tasks[to] = task
        prompts[here], self._rows[here] = [task.messages] * size, [self._row(task)] * size
        for old, new in zip(made, spare, strict=True):
            if isinstance(old, list) and old:
                old[here] = new[there]

    def _learn(self, tasks: Sequence[Task], made: Any) -> list[list[float | None]]:
        """Rewards of the answers in `made`, by group; the curriculum is told how many were right."""
        assert self._curriculum is not None
        size, texts = self._size, [completion[-1]["content"] for completion in made[3]]
        found: list[list[float | None]] = []
        seen: list[tuple[Source, float]] = []
        for number, task in enumerate(tasks):
            rewards = [self._judge.rollout(text, task).reward for text in texts[number * size : (number + 1) * size]]
            scored = [reward for reward in rewards if reward is not None]
            if scored:
                seen.append((task.source, sum(reward > self._judge.solved for reward in scored) / len(scored)))
            found.append(rewards)
        self._curriculum.saw_everywhere(seen)
        return found

    def _draw(self, count: int) -> list[Task]:
        assert self._curriculum is not None
        tasks = self._curriculum.draw(count)
        self._judge.know(tasks)
        return tasks

    def _row(self, task: Task) -> dict[str, Any]:
        return {"prompt": task.messages, "task": Judge.key(task)}

    def _most(self, count: int) -> int:
        """The largest `count` of all processes: each must generate as often and as much as the others."""
        counts: Any = self.accelerator.gather(torch.tensor([count], device=self.accelerator.device))
        return int(counts.max())
