"""The reward as TRL wants it, and the guard that watches it.

TRL hands over completions and the columns of the data set; one column is the key of a task, and what is true of the
task never leaves this process.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from chaosgym.agents.prompt import PromptFormat
from chaosgym.rewards import WEIGHTS, score
from chaosgym.training.callbacks import Guard
from chaosgym.training.tasks import Task

__all__ = ["Judge", "Variance"]

_MASTERED = 0.9
"""Mean reward from which answers that are all alike are all right."""
_log = logging.getLogger(__name__)


class Judge:
    """Scores completions by the task they answer."""

    __name__ = "reward"

    solved = 0.9
    """A reward above this names component and fault rightly."""

    def __init__(self, form: PromptFormat) -> None:
        self._form = form
        self._tasks: dict[str, Task] = {}
        self.unreadable: Counter[str] = Counter()
        """Answers without a readable diagnosis since the last reset, by scenario."""
        self.answers: Counter[str] = Counter()
        """Answers since the last reset, by scenario."""

    @staticmethod
    def key(task: Task) -> str:
        """What stands for a task in a data set."""
        return f"{task.source.id} {task.seed}"

    def know(self, tasks: Sequence[Task]) -> None:
        """Remember tasks that may be asked about."""
        self._tasks.update({self.key(task): task for task in tasks})

    def __call__(
        self, completions: Sequence[Any], task: Sequence[str], log_metric: Callable[[str, float], None] | None = None, **columns: Any
    ) -> list[float | None]:
        """One reward per completion; None where the episode may not be scored."""
        sums: Counter[str] = Counter()
        totals: list[float | None] = []
        for completion, key in zip(completions, task, strict=True):
            known = self._tasks[key]
            text = completion if isinstance(completion, str) else completion[0]["content"]
            result = score(self._form.read(text, known.incident), known.source.truth, known.incident.components)
            totals.append(result.total)
            sums.update(result.terms)
            self.answers[known.source.truth.scenario] += 1
            self.unreadable[known.source.truth.scenario] += result.terms.get("format", 1.0) == 0.0
        if log_metric is not None:
            for term in WEIGHTS:
                log_metric(f"term/{term}", sums[term] / max(1, len(totals)))
        return totals

    def rewards(self, trainer: Any, tasks: Sequence[Task], each: int, batch: int = 16) -> list[list[float]]:
        """Let the trainer's model answer every task `each` times, as it does in training; the rewards per task."""
        found: list[list[float]] = []
        for at in range(0, len(tasks), batch):
            part = [task for task in tasks[at : at + batch] for _ in range(each)]
            prompt_ids, images, fields = trainer._tokenize_prompts([task.messages for task in part])
            ids, _ = trainer._generate_single_turn(prompt_ids, images, fields, each)
            texts = trainer.processing_class.batch_decode(ids, skip_special_tokens=True)
            values = [value or 0.0 for value in self(texts, [self.key(task) for task in part])]
            found += [values[i : i + each] for i in range(0, len(values), each)]
        self.reset()
        return found

    def reset(self) -> None:
        """Count from nothing again."""
        self.answers.clear()
        self.unreadable.clear()


class Variance(Guard):
    """Stops GRPO when rewards have not differed within any group, or no answer was readable, for `patience` steps.

    Where they are all high there is nothing left to learn, and training ends as it does after its last step.
    """

    def __init__(self, judge: Judge, patience: int) -> None:
        self._judge, self._patience, self._same = judge, patience, 0

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Look at what TRL measured since the last log."""
        same = (logs or {}).get("frac_reward_zero_std")
        if same is None:
            return
        self._same = self._same + args.logging_steps if same >= 1.0 else 0
        mean = (logs or {}).get("reward") or 0.0
        if self._same >= self._patience and mean >= _MASTERED:
            control.should_training_stop = True
            _log.info("every answer earns about %.2f: nothing left to learn here", mean)
        elif self._same >= self._patience:
            self.stop(control, self._why(logs or {}))
        if not self._same:
            self._judge.reset()

    def _why(self, logs: dict[str, Any]) -> str:
        mean = f"all rewards alike (mean {logs.get('reward') or 0.0:.2f}) for {self._same} steps"
        answers, unreadable = sum(self._judge.answers.values()), sum(self._judge.unreadable.values())
        if answers and unreadable > 0.5 * answers:
            worst = self._judge.unreadable.most_common(1)[0]
            what = f"{unreadable} of {answers} answers are no readable diagnosis, most of scenario {worst[0]}"
            return f"{mean}: {what}; run `chaosgym train sft` longer first"
        scenarios = ", ".join(sorted(self._judge.answers)[:5])
        return f"{mean}, of scenarios {scenarios}: they teach nothing; record harder or easier ones, or raise temperature"
