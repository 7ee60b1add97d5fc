"""What watches a run: metrics written down, the clock, and guards that stop what can't learn.

A trainer's loop must not be left by an exception in the midst of a step, so guards ask it to stop and `check` raises after.
"""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from chaosgym.errors import ChaosgymError

if TYPE_CHECKING:
    from chaosgym.training.optimizer import Schedule
    from chaosgym.training.run import Run

__all__ = ["Clock", "FiniteLoss", "Guard", "Metrics", "TrainingStopped", "quiet"]


_log = logging.getLogger(__name__)
_SAID = (
    ("loss", "loss"), ("mean_token_accuracy", "token accuracy"), ("reward", "reward"), ("term/component", "component"),
    ("term/fault", "fault"), ("explained_variance", "explained variance"),
)


class TrainingStopped(ChaosgymError):
    """A guard saw that going on would teach nothing."""


def quiet(trainer: Any) -> None:
    """Keep the libraries below from printing: metrics go to metrics.jsonl and to our log."""
    import datasets
    from transformers.trainer_callback import PrinterCallback
    from transformers.utils import logging as chatter

    trainer.remove_callback(PrinterCallback)
    chatter.disable_progress_bar()
    datasets.disable_progress_bars()


class Metrics(TrainerCallback):
    """Writes each log of the trainer to metrics.jsonl, with the seconds since the loop began."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._began = time.monotonic()
        self._before: tuple[float, float] | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._began = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Append a line."""
        kept = {key: value for key, value in (logs or {}).items() if isinstance(value, int | float) and math.isfinite(value)}
        seconds = time.monotonic() - self._began
        if state.is_world_process_zero:
            where = {"step": state.global_step, "of": state.max_steps, "seconds": round(seconds, 2)}
            self._run.log({**where, **kept, **self._pace(kept, seconds)})
            said = ", ".join(f"{name} {kept[key]:.3g}" for key, name in _SAID if key in kept)
            if said:
                _log.info("%s: step %d of %d, %.0f s, %s", self._run.command, state.global_step, state.max_steps, seconds, said)


    def _pace(self, kept: dict[str, Any], seconds: float) -> dict[str, float]:
        """Tokens a second since the line before, where the trainer counts tokens; it counts from where a checkpoint left off."""
        if "num_tokens" not in kept:
            return {}
        before, self._before = self._before, (kept["num_tokens"], seconds)
        if before is None or seconds <= before[1]:
            return {}
        return {"tokens_per_second": round((kept["num_tokens"] - before[0]) / (seconds - before[1]), 1)}


class Clock(TrainerCallback):
    """Ends the loop, with a checkpoint, when the schedule is out of time."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask for the end."""
        if self._schedule.out_of_time:
            control.should_save = control.should_training_stop = True


class Guard(TrainerCallback):
    """Stops the loop with a reason."""

    reason = ""

    def stop(self, control: Any, reason: str) -> None:
        """Ask for the end and remember why."""
        self.reason = reason
        control.should_training_stop = True

    def check(self) -> None:
        """Raise TrainingStopped when this guard has stopped the loop."""
        if self.reason:
            raise TrainingStopped(self.reason)


class FiniteLoss(Guard):
    """Stops when the loss is no longer a number."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Look at the loss just logged."""
        loss = (logs or {}).get("loss", 0.0)
        if isinstance(loss, float) and not math.isfinite(loss):
            self.stop(control, f"the loss is {loss} at step {state.global_step}: lower learning_rate or muon_learning_rate and start again")
