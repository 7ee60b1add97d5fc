"""The reward as TRL wants it, and the guard that watches it.

TRL hands over completions and the columns of the data set; one column is the key of a task, and what is true of the
task never leaves this process.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

from chaosgym.agents.prompt import PromptFormat
from chaosgym.rewards import WEIGHTS, score
from chaosgym.training import processes
from chaosgym.training.callbacks import Guard
from chaosgym.training.rollouts import Rollout, RolloutFile
from chaosgym.training.tasks import Task

__all__ = ["SOLVED", "Counted", "Judge", "Variance"]

SOLVED = 0.9
"""A reward above this names component and fault rightly."""

_MASTERED = 0.9
"""Mean reward from which answers that are all alike are all right."""
_REMEMBERED = 20_000
"""Tasks, more than any batch has: of a long run those of long ago are forgotten."""
_log = logging.getLogger(__name__)


class Judge:
    """Scores completions by the task they answer."""

    __name__ = "reward"

    solved = SOLVED

    def __init__(self, form: PromptFormat, *, sparse: bool = False) -> None:
        """With `sparse` an answer earns 1 when component and fault are right, and nothing else."""
        self._form, self._sparse = form, sparse
        self._tasks: dict[str, Task] = {}
        self.unreadable: Counter[str] = Counter()
        """Answers without a readable diagnosis since the last reset, by scenario."""
        self.answers: Counter[str] = Counter()
        """Answers since the last reset, by scenario."""
        self.kept: RolloutFile | None = None
        """Where answers given in training go."""

    @staticmethod
    def key(task: Task) -> str:
        """What stands for a task in a data set."""
        return f"{task.source.id} {task.seed}"

    def know(self, tasks: Sequence[Task]) -> None:
        """Remember tasks that may be asked about."""
        self._tasks.update({self.key(task): task for task in tasks})
        for key in list(self._tasks)[: max(0, len(self._tasks) - _REMEMBERED)]:
            del self._tasks[key]

    def __call__(
        self, completions: Sequence[Any], task: Sequence[str], log_metric: Callable[[str, float], None] | None = None,
        trainer_state: Any = None, **columns: Any,
    ) -> list[float | None]:
        """One reward per completion; None where the episode may not be scored."""
        step = 0 if trainer_state is None else trainer_state.global_step
        texts = [completion if isinstance(completion, str) else completion[0]["content"] for completion in completions]
        rollouts = [self.rollout(text, self._tasks[key], step) for text, key in zip(texts, task, strict=True)]
        self._count(rollouts, task)
        if log_metric is not None:
            scored = [rollout for rollout in rollouts if rollout.reward is not None]
            for term in WEIGHTS if scored else ():
                log_metric(f"term/{term}", sum(rollout.terms[term] for rollout in scored) / len(scored))
        if self.kept is not None and trainer_state is not None:
            self.kept.add(rollouts)
        return [rollout.reward for rollout in rollouts]

    def rollout(self, text: str, task: Task, step: int = 0) -> Rollout:
        """Score one answer."""
        answer = self._form.read(text, task.incident)
        result = score(answer, task.source.truth, task.incident.components)
        reward = float(result.total > self.solved) if self._sparse and result.total is not None else result.total
        return Rollout(step, task.source.id, task.seed, text, answer, reward, result.terms)

    def _count(self, rollouts: Sequence[Rollout], keys: Sequence[str]) -> None:
        for rollout, key in zip(rollouts, keys, strict=True):
            scenario = self._tasks[key].source.truth.scenario
            self.answers[scenario] += 1
            self.unreadable[scenario] += rollout.terms.get("format", 1.0) == 0.0

    def rollouts(self, trainer: Any, tasks: Sequence[Task], each: int, batch: int = 16) -> list[list[Rollout]]:
        """Let the trainer's model answer every task `each` times, as it does in training; the scored answers per task.

        Several processes share the work, and all are told what came of it.
        """
        found: list[list[Rollout]] = []
        mine = processes.share(tasks)
        for at in range(0, len(mine), batch):
            part = [task for task in mine[at : at + batch] for _ in range(each)]
            prompt_ids, images, fields = trainer._tokenize_prompts([task.messages for task in part])
            ids = trainer._generate_single_turn(prompt_ids, images, fields, each)
            ids = ids[0] if isinstance(ids, tuple) else ids  # GRPO's come with their probabilities
            texts = trainer.processing_class.batch_decode(ids, skip_special_tokens=True)
            scored = [self.rollout(text, task) for text, task in zip(texts, part, strict=True)]
            found += [scored[i : i + each] for i in range(0, len(scored), each)]
        return processes.merge(found, len(tasks))

    def reset(self) -> None:
        """Count from nothing again."""
        self.answers.clear()
        self.unreadable.clear()


class Counted(Protocol):
    """Who counts answers since its last reset."""

    unreadable: Counter[str]
    answers: Counter[str]

    def reset(self) -> None:
        """Count from nothing again."""
        ...


class Variance(Guard):
    """Stops reinforcement when rewards have not differed, or no answer was readable, for `patience` steps.

    They must differ within a group for GRPO, anywhere in a batch for PPO. Where they have all been high there is nothing
    left to learn, and training ends as it does after its last step.
    """

    def __init__(self, judge: Counted, patience: int, within: Literal["group", "batch"] = "group") -> None:
        self._judge, self._patience, self._within = judge, patience, within
        self._same, self._least = 0, 1.0

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Look at what TRL measured since the last log."""
        alike = self._alike(logs or {})
        if alike is None:
            return
        self._same = self._same + args.logging_steps if alike else 0
        mean = (logs or {}).get("reward") or 0.0
        self._least = min(self._least, mean) if alike else 1.0
        if self._same >= self._patience and self._least >= _MASTERED:
            control.should_training_stop = True
            _log.info("every answer earns about %.2f: nothing left to learn here", mean)
        elif self._same >= self._patience:
            self.stop(control, self._why(logs or {}))
        if not self._same:
            self._judge.reset()

    def _alike(self, logs: dict[str, Any]) -> bool | None:
        """Whether rewards did not differ; None when the log says nothing about them."""
        groups, deviation = logs.get("frac_reward_zero_std"), logs.get("reward_std")
        if self._within == "group":
            return None if groups is None else groups >= 1.0
        return None if deviation is None else deviation < 1e-6

    def _why(self, logs: dict[str, Any]) -> str:
        mean = f"all rewards alike (mean {logs.get('reward') or 0.0:.2f}) for {self._same} steps"
        answers, unreadable = sum(self._judge.answers.values()), sum(self._judge.unreadable.values())
        if answers and unreadable > 0.5 * answers:
            worst = self._judge.unreadable.most_common(1)[0]
            what = f"{unreadable} of {answers} answers are no readable diagnosis, most of scenario {worst[0]}"
            return f"{mean}: {what}; run `chaosgym train sft` longer first"
        scenarios = ", ".join(sorted(self._judge.answers)[:5])
        return f"{mean}, of scenarios {scenarios}: they teach nothing; record harder or easier ones, or raise temperature"
