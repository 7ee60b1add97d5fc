"""Episodes that are never trained on, and the model that answered them best.

Reward on what is trained on goes on rising while answers to anything else get worse; without a look at other episodes
the last model of a run may be its worst. Which episodes are kept out depends on their ids alone, so that all commands keep
out the same.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from transformers import TrainerCallback

from chaosgym.training import processes
from chaosgym.training.reward import SOLVED
from chaosgym.training.tasks import Source, Task, make_task

if TYPE_CHECKING:
    from chaosgym.agents.prompt import PromptFormat
    from chaosgym.training.reward import Judge
    from chaosgym.training.rollouts import Rollout
    from chaosgym.training.run import Run

__all__ = ["Best", "ReportExam", "divide", "is_kept", "likeliest"]

_log = logging.getLogger(__name__)
_FEWEST = 12
"""With fewer episodes than this nothing could be told from luck, so all are trained on."""
_RENDERINGS = 2
"""Times that each is asked about, in other words."""
_FILE = "best.pt"
_GREEDY = 0.01
"""A temperature at which the likeliest answer is given."""
_TIE = 0.01
"""Worth of reward beside accuracy: reward may rise by a term that is easily had while fewer answers are right."""
_FAR, _SLOWER = 0.05, 0.3
"""By how much worse than the best is a reason to go back to it, and what is left of the learning rate then."""


class _Known(Protocol):
    @property
    def id(self) -> str: ...


K = TypeVar("K", bound=_Known)


def divide(sources: Sequence[K], share: float) -> tuple[list[K], list[K]]:
    """(to train on, kept out): about `share` of them is kept out, or nothing when that were too few."""
    kept = [source for source in sources if is_kept(source.id, share)]
    if len(kept) < _FEWEST or len(kept) == len(sources):
        return list(sources), []
    return [source for source in sources if not is_kept(source.id, share)], kept


def is_kept(identity: str, share: float) -> bool:
    """Whether an episode is of the `share` that is kept out; the same wherever it is asked."""
    return int.from_bytes(hashlib.sha256(f"validation {identity}".encode()).digest()[:6]) / 2**48 < share


class ReportExam:
    """Asks the trainer's model about the reports of kept-out episodes."""

    def __init__(self, trainer: Any, judge: Judge, sources: Sequence[Source], form: PromptFormat) -> None:
        self._trainer, self._judge = trainer, judge
        self._tasks = [make_task(source, -1_000_000 - number, form) for source in sources for number in range(_RENDERINGS)]
        judge.know(self._tasks)

    def __call__(self) -> list[Rollout]:
        """One answer to each question."""
        return likeliest(self._trainer, self._judge, self._tasks)


class Best(TrainerCallback):
    """Asks the model about the kept-out episodes now and then, goes back where it got far worse, and hands over the best weights."""

    def __init__(self, trainer: Any, run: Run, exam: Callable[[], Sequence[Rollout]], every: int) -> None:
        """`exam` gives the answers of the trainer's model about them; it is held every so many steps."""
        self._trainer, self._run, self._exam, self._every = trainer, run, exam, every
        self._worth, self._step, self._asked, self._backs = float("-inf"), 0, -1, 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """What the model can do already is the first to beat; a run that goes on has its best of before."""
        file = self._run.path / _FILE
        if state.global_step and file.is_file():
            import torch

            before = torch.load(file, weights_only=True)
            self._worth, self._step = before["worth"], before["step"]
        self._ask(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask again after so many steps."""
        if state.global_step % self._every == 0:
            self._ask(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask for the last time, and put the best weights back."""
        self._ask(state.global_step)
        if self._step != state.global_step:
            self._restore()
            _log.info("the model of step %d answers kept-out episodes best: it is the one", self._step)
        self._run.log({"step": state.global_step, "validation/best_step": self._step})
        processes.wait()  # until all have read it
        processes.first(lambda: (self._run.path / _FILE).unlink(missing_ok=True))

    def _ask(self, step: int) -> None:
        if step == self._asked:
            return
        self._asked = step
        answers = [rollout for rollout in self._exam() if rollout.reward is not None]
        found = _figures(answers)
        self._run.log({"step": step, **{f"validation/{name}": round(value, 4) for name, value in found.items()}})
        said = ", ".join(f"{name} {value:.3f}" for name, value in found.items())
        _log.info("step %d: %s on %d questions about kept-out episodes", step, said, len(answers))
        if (worth := found["accuracy"] + _TIE * found["reward"]) > self._worth:
            self._worth, self._step = worth, step
            self._keep()
        elif worth < self._worth - _FAR:
            self._go_back(step)

    def _go_back(self, step: int) -> None:
        """To the best weights, and on from there in smaller steps: what was lost is not learnt again by the reward that lost it."""
        self._restore()
        self._trainer.optimizer.state.clear()  # its momentum leads where we come from
        schedule = getattr(self._trainer.lr_scheduler, "scheduler", self._trainer.lr_scheduler)
        schedule.base_lrs = [rate * _SLOWER for rate in schedule.base_lrs]
        self._backs += 1
        self._run.log({"step": step, "validation/went_back": self._backs})
        _log.info("step %d: far worse than step %d, so back to it, with %g of the learning rate", step, self._step, _SLOWER)

    def _restore(self) -> None:
        import torch

        best = torch.load(self._run.path / _FILE, weights_only=True)["weights"]
        with torch.no_grad():
            for name, parameter in _trained(self._trainer).items():
                parameter.copy_(_parted(best[name].to(parameter.device), parameter))
        self._trainer._last_loaded_step = -1  # vLLM has those of before

    def _keep(self) -> None:
        import torch

        trained = {name: _whole(parameter).cpu().clone() for name, parameter in _trained(self._trainer).items()}

        def write() -> None:
            draft = self._run.path / f".{_FILE}.partial"
            torch.save({"worth": self._worth, "step": self._step, "weights": trained}, draft)
            draft.replace(self._run.path / _FILE)

        processes.first(write)


def likeliest(trainer: Any, judge: Judge, tasks: Sequence[Task]) -> list[Rollout]:
    """Answers as they are given in use: the likeliest, and not one at random."""
    who = [trainer.generation_config, *filter(None, [getattr(trainer, "vllm_generation", None)])]
    temperature = who[0].temperature
    try:
        for sampling in who:
            sampling.temperature = _GREEDY
        return [rollout for (rollout,) in judge.rollouts(trainer, tasks, 1)]
    finally:
        for sampling in who:
            sampling.temperature = temperature


def _figures(answers: Sequence[Rollout]) -> dict[str, float]:
    """Shares of answers that are right in all, in the component, in the fault; and the mean reward."""
    rewards = [rollout.reward or 0.0 for rollout in answers]
    count = max(1, len(answers))
    return {
        "accuracy": sum(reward > SOLVED for reward in rewards) / count,
        "component": sum(rollout.terms["component"] == 1.0 for rollout in answers) / count,
        "fault": sum(rollout.terms["fault"] == 1.0 for rollout in answers) / count,
        "reward": sum(rewards) / count,
    }


def _trained(trainer: Any) -> dict[str, Any]:
    return {name: p for name, p in trainer.accelerator.unwrap_model(trainer.model).named_parameters() if p.requires_grad}


def _whole(parameter: Any) -> Any:
    """All of it, where several processes hold a part each."""
    return (parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter).detach()


def _parted(whole: Any, like: Any) -> Any:
    """This process's part of it, where `like` is one."""
    if not hasattr(like, "full_tensor"):
        return whole
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(whole, like.device_mesh, like.placements)
