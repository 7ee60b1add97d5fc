"""`chaosgym train grpo` and `ppo` with `task: investigate`: rollouts in many turns on chaosgym/Investigate-v0.

    rows (episode, seed) ──> TRL plays them on InvestigateTools ──> their rewards ──> update
                                                                        └──> rollouts.jsonl

TRL generates, calls the tools, masks what they answer and never closes one: those are closed here, whatever happens. The rollouts of
a group ask about the same incident by the same handles. For PPO the value before each token that the model wrote is learnt, and
a call is credited with what the value says after the page it brought: advantages skip the tokens of pages.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from chaosgym.agents.caller import CallingAgent
from chaosgym.agents.prompt import PromptFormat
from chaosgym.agents.slm import SlmAgent
from chaosgym.envs.investigate import SPENDING_TERM, investigation_reward
from chaosgym.envs.trl import InvestigateTools, Outcome, close, outcome
from chaosgym.errors import InputError
from chaosgym.rewards import WEIGHTS, score
from chaosgym.training import processes
from chaosgym.training.config import Reinforcement
from chaosgym.training.conversation import tool_schemas
from chaosgym.training.inquests import Inquest, draw_inquests, inquest_format, read_inquests, starting_model
from chaosgym.training.nano import lora_config
from chaosgym.training.reinforcement import Method, best, grpo_config, kept_file, run_to_end, shares
from chaosgym.training.rollouts import Rollout, RolloutFile
from chaosgym.training.run import Run
from chaosgym.training.validation import divide

__all__ = ["reinforce_inquiries"]

_ROOM = {"compact": 768, "readable": 8192}
"""Tokens of a whole rollout, pages included."""
_RENDERINGS = 2
"""Times that the model is asked about each kept-out episode, by other handles."""


def reinforce_inquiries(config: Reinforcement, run: Run, method: Method) -> dict[str, Any]:
    """Train, from the newest checkpoint of `run` if it has one, and return the summary. Every environment is closed at the end."""
    if config.reward != "shaped":
        raise InputError(f"reward {config.reward!r} is for reports, an investigation earns what Investigate-v0 gives: leave it out")
    form = inquest_format(config)
    opened: list[InvestigateTools] = []
    try:
        return _train(config, run, method, form, opened)
    finally:
        for tools in opened:
            close(tools)


def _train(config: Reinforcement, run: Run, method: Method, form: PromptFormat, opened: list[InvestigateTools]) -> dict[str, Any]:
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # that `environment_factory` may change is what our pins are for
    inquests, kept_out = divide(read_inquests(config.episodes), config.validation)
    model, tokenizer = starting_model(config, form)
    batches = -(-config.steps // method.epochs)
    drawn = draw_inquests(inquests, batches * config.batch_size // config.generations, config.seed + 3)
    ledger = Ledger()
    trainer = _trainer(config, run, model, tokenizer, form, method, ledger, _rows(drawn, form), _factories(inquests, form, opened))
    ledger.kept = kept_file(config, run, trainer)
    alone = processes.count() == 1  # of several each would pick another model
    exam = InquestExam(trainer, tokenizer, kept_out, form) if kept_out and alone else None
    return run_to_end(config, run, method, trainer, tokenizer, form, ledger, *best(config, run, trainer, exam))


class Ledger:
    """Watches rollouts as a reward function of TRL that has no say in the reward, which is the environment's."""

    __name__ = "ledger"

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        """Rollouts since the last reset, by episode."""
        self.unreadable: Counter[str] = Counter()
        """Those in which nothing was submitted."""
        self.kept: RolloutFile | None = None
        """Where rollouts go."""

    def __call__(
        self, environments: Sequence[InvestigateTools], completions: Sequence[Any], episode: Sequence[str], seed: Sequence[int],
        log_metric: Callable[[str, float], None] | None = None, trainer_state: Any = None, **columns: Any,
    ) -> list[float | None]:
        """Log calls, spending, the share that submits and the terms of the reward; None for each."""
        found = [outcome(tools) for tools in environments]
        if self.kept is not None and trainer_state is not None:
            told = zip(episode, seed, completions, found, environments, strict=True)
            self.kept.add([_rollout(trainer_state.global_step, *one) for one in told])
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


def _rollout(step: int, episode: str, seed: int, completion: Any, found: Outcome, tools: InvestigateTools) -> Rollout:
    """What was said, without the pages, which come again when the same is asked."""
    said = (part for message in completion if message["role"] == "assistant" for part in _said(message))
    reward = tools.get_reward()
    nothing = {} if reward is None else dict.fromkeys(WEIGHTS, 0.0)  # words without a call ended it, so nothing was scored
    return Rollout(step, episode, seed, "\n".join(said), found.answer, reward, dict(found.terms) or nothing)


def _said(message: dict[str, Any]) -> Iterator[str]:
    """Words, then calls."""
    if message.get("content"):
        yield message["content"]
    yield from (json.dumps(call["function"]) for call in message.get("tool_calls") or ())


class InquestExam:
    """Lets the trainer's model investigate kept-out episodes, as `chaosgym eval` does."""

    def __init__(self, trainer: Any, tokenizer: Any, inquests: Sequence[Inquest], form: PromptFormat) -> None:
        model = trainer.accelerator.unwrap_model(trainer.model)
        model = model.get_base_model() if hasattr(model, "peft_config") else model  # the adapters are within it
        self._inquests, self._agent = inquests, CallingAgent(SlmAgent.holding(model, tokenizer, form))

    def __call__(self) -> list[Rollout]:
        """Each twice, by other handles."""
        at_a_time = self._agent.model.batch_size  # evidence is large
        parts = [self._inquests[at : at + at_a_time] for at in range(0, len(self._inquests), at_a_time)]
        return [rollout for part in parts for rendering in range(_RENDERINGS) for rollout in self._ask(part, rendering)]

    def _ask(self, inquests: Sequence[Inquest], rendering: int) -> Iterator[Rollout]:
        dossiers = [inquest.open() for inquest in inquests]
        found = self._agent.investigate([dossier.evidence for dossier in dossiers], rendering)
        for dossier, one in zip(dossiers, found, strict=True):
            scored, share = score(one.answer, dossier.truth, dossier.evidence.names), min(1.0, one.spent / self._agent.format.cost)
            reward, terms = investigation_reward(scored, share), {**scored.terms, SPENDING_TERM: share}
            yield Rollout(0, dossier.episode, rendering, "", one.answer, reward, terms)


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
    kind = method.sharing if shares(config, model) else method.trainer
    trainer = kind(
        model, ledger, arguments, Dataset.from_list(rows), processing_class=tokenizer, peft_config=lora_config(config.lora),
        environment_factory=factories,
    )
    tools = list(tool_schemas())  # TRL would derive them from the methods, anew for every turn
    trainer._env_tools = dict.fromkeys(factories, tools)
    trainer.generation_config.max_new_tokens = form.max_new_tokens  # of one turn; TRL would let it write on to the end of all
    method.prepare(trainer)
    return trainer
