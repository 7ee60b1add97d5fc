"""`chaosgym train grpo` and `ppo` with `task: investigate`: rollouts in many turns on chaosgym/Investigate-v0.

    rows (episode, seed) ──> TRL plays them on InvestigateTools ──> their rewards ──> update

TRL generates, calls the tools, masks what they answer and never closes one: those are closed here, whatever happens. The rollouts of
a group ask about the same incident by the same handles. For PPO the value before each token that the model wrote is learnt, and
a call is credited with what the value says after the page it brought: advantages skip the tokens of pages.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from chaosgym.agents.prompt import PromptFormat
from chaosgym.envs.trl import InvestigateTools, close, outcome
from chaosgym.rewards import WEIGHTS
from chaosgym.training.config import Reinforcement
from chaosgym.training.inquests import Inquest, draw_inquests, inquest_format, read_inquests, starting_model
from chaosgym.training.nano import lora_config
from chaosgym.training.reinforcement import Method, grpo_config, run_to_end
from chaosgym.training.run import Run
from chaosgym.training.validation import divide

__all__ = ["reinforce_inquiries"]

_ROOM = {"compact": 768, "readable": 8192}
"""Tokens of a whole rollout, pages included."""


def reinforce_inquiries(config: Reinforcement, run: Run, method: Method) -> dict[str, Any]:
    """Train, from the newest checkpoint of `run` if it has one, and return the summary. Every environment is closed at the end."""
    form = inquest_format(config)
    inquests, _ = divide(read_inquests(config.episodes), config.validation)
    opened: list[InvestigateTools] = []
    try:
        return _train(config, run, method, form, inquests, opened)
    finally:
        for tools in opened:
            close(tools)


def _train(
    config: Reinforcement, run: Run, method: Method, form: PromptFormat, inquests: Sequence[Inquest], opened: list[InvestigateTools]
) -> dict[str, Any]:
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # that `environment_factory` may change is what our pins are for
    model, tokenizer = starting_model(config, form)
    batches = -(-config.steps // method.epochs)
    drawn = draw_inquests(inquests, batches * config.batch_size // config.generations, config.seed + 3)
    ledger = Ledger()
    trainer = _trainer(config, run, model, tokenizer, form, method, ledger, _rows(drawn, form), _factories(inquests, form, opened))
    return run_to_end(config, run, method, trainer, tokenizer, form, ledger)


class Ledger:
    """Watches rollouts as a reward function of TRL that has no say in the reward, which is the environment's."""

    __name__ = "ledger"

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        """Rollouts since the last reset, by episode."""
        self.unreadable: Counter[str] = Counter()
        """Those in which nothing was submitted."""

    def __call__(
        self, environments: Sequence[InvestigateTools], episode: Sequence[str], log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """Log calls, spending, the share that submits and the terms of the reward; None for each."""
        found = [outcome(tools) for tools in environments]
        for name, one in zip(episode, found, strict=True):
            self.answers[name] += 1
            self.unreadable[name] += not one.submitted
        if log_metric is not None:
            columns = {
                "calls": [one.calls for one in found], "spent": [one.spent for one in found], "submitted": [one.submitted for one in found],
                **{f"term/{term}": [one.terms.get(term, 0.0) for one in found] for term in WEIGHTS},
            }
            for name, values in columns.items():
                log_metric(name, sum(values) / len(values))
        return [None] * len(found)

    def reset(self) -> None:
        """Count from nothing again."""
        self.answers.clear()
        self.unreadable.clear()


def _rows(drawn: Any, form: PromptFormat) -> list[dict[str, Any]]:
    """What the data set holds: the conversation before the opening, and what `InvestigateTools.reset` takes."""
    system = [{"role": "system", "content": form.system}] if form.system else []
    prompt = [*system, {"role": "user", "content": ""}]
    return [{"prompt": prompt, "environment": str(inquest.folder), "episode": inquest.id, "seed": seed} for inquest, seed in drawn]


def _factories(
    inquests: Sequence[Inquest], form: PromptFormat, opened: list[InvestigateTools]
) -> dict[str, Callable[[], InvestigateTools]]:
    """By folder of episodes: who makes another environment on it."""
    return {str(folder): partial(_open, folder, form, opened) for folder in dict.fromkeys(inquest.folder for inquest in inquests)}


def _open(folder: Path, form: PromptFormat, opened: list[InvestigateTools]) -> InvestigateTools:
    tools = InvestigateTools(folder, calls=form.calls, cost=form.cost, tokens=form.page, rendering=form.rendering)
    opened.append(tools)
    return tools


def _trainer(
    config: Reinforcement, run: Run, model: Any, tokenizer: Any, form: PromptFormat, method: Method, ledger: Ledger,
    rows: list[dict[str, Any]], factories: dict[str, Callable[[], InvestigateTools]],
) -> Any:
    from datasets import Dataset

    arguments = grpo_config(config, run, method, config.max_answer or _ROOM[form.rendering])
    trainer = method.trainer(
        model, ledger, arguments, Dataset.from_list(rows), processing_class=tokenizer, peft_config=lora_config(config.lora),
        environment_factory=factories,
    )
    trainer.generation_config.max_new_tokens = form.max_new_tokens  # of one turn; TRL would let it write on to the end of all
    method.prepare(trainer)
    return trainer
