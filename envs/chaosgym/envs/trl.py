"""`InvestigateTools`: the multi-turn environment as TRL's `environment_factory` wants it.

    factory = functools.partial(InvestigateTools, "episodes/train")          # picklable, without arguments
    GRPOTrainer(model, environment_factory=factory, train_dataset=Dataset.from_list(rollout_rows("episodes/train")), ...)

TRL makes every public method of the class a tool, derives its schema from types and docstring, calls `reset` with the row of the
data set before a rollout and `get_reward` after it, and keeps instances for the next batch. It never closes one: each closes
its environment when it is collected or the interpreter ends, and `close` does so at once. TRL itself is not imported here.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from chaosgym.agents.investigator import INVESTIGATION
from chaosgym.envs.case import ScorableEpisodes
from chaosgym.envs.investigate import InvestigateEnv
from chaosgym.errors import InfrastructureError, InputError
from chaosgym.incident.inquiry import SUBMIT, write_action

__all__ = ["InvestigateTools", "Outcome", "close", "outcome", "rollout_rows"]

@dataclass(frozen=True)
class Outcome:
    """What has come of a rollout so far."""

    calls: int
    """Beside `submit`."""
    spent: int
    """What they cost."""
    submitted: bool
    terms: Mapping[str, float]
    """Those of the reward and `spending`; empty before the end."""
    answer: str
    """What was submitted, with names; empty where nothing was."""


_OVER = "The investigation has ended; nothing more is answered."


class InvestigateTools:
    """One rollout at a time on an `InvestigateEnv` of its own; what it takes is what that takes."""

    def __init__(self, episodes: str | Path | None = None, **arguments: Any) -> None:
        """Prepare the environment; `arguments` as of `InvestigateEnv`. Raises InputError."""
        self._env = InvestigateEnv(episodes, **arguments)
        self._reward: float | None = 0.0
        self._open = False
        self._info: dict[str, Any] = {}
        self._closer = weakref.finalize(self, self._env.close)

    def reset(self, episode: str | None = None, seed: int | None = None, **row: Any) -> str:
        """Begin a rollout on the row's `episode`, or on what its `seed` draws; a rollout that was going on is dropped.

        All rows of a group have to ask about the same incident, so one of the two is needed: InputError without. Returns what
        is appended to the last user message. Where a live sandbox fails time and again, the rollout cannot be scored.
        """
        if episode is None and seed is None:
            raise InputError("a row names its episode or a seed, so that a group asks about one incident; `rollout_rows` makes such rows")
        self._reward, self._open, self._info = 0.0, True, {}
        try:
            _, info = self._env.reset(seed=seed, options=None if episode is None else {"episode": episode})
        except InfrastructureError as error:
            self._reward, self._open = None, False
            return f"There is nothing to investigate: {error}"
        return info["opening"]

    def get_reward(self) -> float | None:
        """The reward of the rollout: 0 when nothing was submitted within the budget, None when nothing may be scored."""
        return self._reward

    def topology(self) -> str:
        """List the components of the application, and who calls whom. Costs 1."""
        return self._ask("topology")

    def alerts(self) -> str:
        """Tell what users see, route by route, before and during the incident. Costs 1."""
        return self._ask("alerts")

    def events(self, component: str | None = None, since: float | None = None, until: float | None = None) -> str:
        """List deploys, changes of configuration, restarts and exits. Costs 1.

        Args:
            component: Only of this component.
            since: Not before so many seconds after the end of the baseline; negative is before the incident.
            until: Not after.
        """
        return self._ask("events", component=component, since=since, until=until)

    def metrics(self, component: str | None = None, metric: str | None = None) -> str:
        """Show figures before and during the incident, of a component, of a metric, or of both. Costs 1.

        Args:
            component: All figures of this component.
            metric: Only figures whose name contains this, such as cpu; without a component, of all of them.
        """
        return self._ask("metrics", component=component, metric=metric)

    def logs(
        self,
        component: str | None = None,
        contains: str | None = None,
        severity: Literal["debug", "info", "warn", "error", "fatal"] | None = None,
        since: float | None = None,
        until: float | None = None,
        limit: int | None = None,
    ) -> str:
        """Search the log lines; those that say the same are counted before and during the incident. Costs 2.

        Args:
            component: Only of this component.
            contains: Only lines that contain this text, whatever the case of letters.
            severity: Only lines as grave as this or graver.
            since: Not before so many seconds after the end of the baseline; negative is before the incident.
            until: Not after.
            limit: Kinds of lines at most, 12 unless told.
        """
        given = {"component": component, "contains": contains, "severity": severity, "since": since, "until": until, "limit": limit}
        return self._ask("logs", **given)

    def traces(self, component: str | None = None, order: Literal["failing", "slow"] = "failing", limit: int = 2) -> str:
        """Show whole requests of the incident as trees of calls. Costs 3.

        Args:
            component: Only requests in which this component made a call or was called.
            order: Those in which something failed, or the slowest.
            limit: Requests at most, 1 to 5.
        """
        return self._ask("traces", component=component, order=order, limit=limit)

    def submit(
        self, verdict: Literal["fault", "healthy"], causes: list[dict[str, Any]] | None = None, evidence: list[str] | None = None
    ) -> str:
        """Answer, which ends the investigation. Costs nothing.

        Args:
            verdict: Whether something is broken.
            causes: For a fault 1 to 3 objects with component, fault (its type) and probability (0 to 1), the likeliest first.
            evidence: Findings that each name a component between the cause and the users.
        """
        return self._ask(SUBMIT, verdict=verdict, causes=causes, evidence=evidence)

    def _ask(self, tool: str, **arguments: Any) -> str:
        if not self._open:
            return _OVER
        given = {name: value for name, value in arguments.items() if value is not None}
        observation, reward, over, _, self._info = self._env.step(write_action(tool, given))
        if over:
            self._reward, self._open = float(reward), False
        return observation

    def _close(self) -> None:
        self._open = False
        self._closer()


def close(tools: InvestigateTools) -> None:
    """Stop what `tools` holds, a live sandbox above all, also in the middle of a rollout; safe to call twice."""
    tools._close()  # pyright: ignore[reportPrivateUsage] - a public method would be a tool


def outcome(tools: InvestigateTools) -> Outcome:
    """What has come of the rollout that `tools` is or was last in."""
    info = tools._info  # pyright: ignore[reportPrivateUsage] - a public method would be a tool
    return Outcome(info.get("calls", 0), info.get("spent", 0), info.get("tool") == SUBMIT, info.get("terms", {}), info.get("answer", ""))


def rollout_rows(episodes: str | Path, split: str | None = "train") -> list[dict[str, Any]]:
    """One row per scorable episode: `prompt`, the messages before the opening, and `episode`, which `reset` takes.

    Raises InputError when the folder has no scorable episode of this split.
    """
    found = ScorableEpisodes(episodes, split)
    prompt = [{"role": "system", "content": INVESTIGATION}, {"role": "user", "content": ""}]
    return [{"prompt": prompt, "episode": found[i][0].header.id} for i in range(len(found))]
