"""`chaosgym/Investigate-v0`: ask the telemetry of an incident, tool call by tool call, then submit a diagnosis.

    observation   Text: after reset the alert and how to ask, then the answer of each tool, bounded
    action        Text: JSON of a tool call, as in {"tool": "logs", "arguments": {"component": "checkout"}}
    reward        0 until `submit`; then `chaosgym.rewards.score` less `SPENDING` times the share of the budget that was spent

An episode whose budget is overrun ends with the reward of no answer. An action that cannot be read is answered by an error.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Text

from chaosgym.envs.case import CaseSource, Rendering, View, check_source
from chaosgym.envs.dossier import Dossier, RecordedDossiers, open_dossier
from chaosgym.envs.live import LiveCases
from chaosgym.envs.root_cause import CHARACTERS, MAX_ACTION
from chaosgym.errors import InputError
from chaosgym.incident.compact import draw_handles
from chaosgym.incident.inquiry import Budget, Inquiry, manual
from chaosgym.rewards import Score

__all__ = ["SPENDING", "SPENDING_TERM", "InvestigateEnv", "investigation_reward"]

SPENDING = 0.003
"""What the whole budget costs. Together with the extras of the reward (.03) less than the smallest step of correctness (.0333)."""
SPENDING_TERM = "spending"
"""The share of the budget that was spent, among the terms of the reward."""
_OPENING = 2560
"""Characters kept for the opening page."""


def investigation_reward(score: Score, share: float) -> float:
    """The reward of an answer, in [0, 1], for which `share` (0 to 1) of the cost budget was spent.

    Raises InputError for an episode that cannot be scored.
    """
    if score.total is None:
        raise InputError(f"this episode cannot be scored: {score.reason}; leave it out")
    return max(0.0, score.total - SPENDING * share)


class InvestigateEnv(gymnasium.Env[str, str]):
    """Asks recorded episodes (`episodes`), or breaks real services for each reset (`sandbox` and `scenarios`)."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi"], "render_fps": 1}  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        episodes: str | Path | None = None,
        *,
        sandbox: str | None = None,
        scenarios: str = "*",
        split: str | None = "train",
        calls: int = 20,
        cost: int = 30,
        tokens: int = 600,
        rendering: Rendering = "readable",
        render_mode: str | None = None,
    ) -> None:
        """Prepare to replay or to run live; a live sandbox starts with the first reset.

        Args:
            episodes: Folder of recorded episodes.
            sandbox: Where to run live, `local`.
            scenarios: Names of the scenarios to run live, as a glob, or a path.
            split: Which episodes or scenarios to take; None takes all.
            calls: Actions that an episode allows beside `submit`.
            cost: What they may cost together, in the units of `chaosgym.incident.inquiry.TOOLS`.
            tokens: Of one answer, at 3.5 characters each.
            rendering: `readable`, or `compact` for closed words with components by handles, which each reset draws anew.
            render_mode: `ansi` or None.

        Raises:
            InputError: Nothing to replay or run, or an argument that cannot be.
        """
        check_source(episodes, sandbox, render_mode)
        if rendering not in ("readable", "compact"):
            raise InputError(f"unknown rendering {rendering!r}; known: 'readable' and 'compact'")
        self.render_mode = render_mode
        self.budget = Budget(calls, cost, tokens)
        self.observation_space = Text(max(self.budget.characters, _OPENING), min_length=0, charset=CHARACTERS)
        self.action_space = Text(MAX_ACTION, min_length=0, charset=CHARACTERS)
        self._view = View(rendering, tokens, CHARACTERS, self.observation_space.max_length)
        self._live = sandbox is not None
        self._dossiers: CaseSource[Dossier] = (
            LiveCases(scenarios, split, open_dossier) if episodes is None else RecordedDossiers(episodes, split)
        )
        self._dossier: Dossier | None = None
        self._inquiry: Inquiry | None = None
        self._shown: list[str] = []
        self._spec: EnvSpec | None = None

    @property
    def spec(self) -> EnvSpec | None:
        """As registered; a live one is not deterministic."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._spec = dataclasses.replace(spec, nondeterministic=True) if spec is not None and self._live else spec

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """The next incident: its alert and the manual of the tools, and `episode`, `opening` and `components` in the info.

        `opening` is the observation without the manual, for those who know the tools already. `options={"episode": ID}`
        replays that one. `components` are as questions name them. Raises InfrastructureError when a live sandbox fails time and again.
        """
        super().reset(seed=seed)
        dossier = self._dossier = self._dossiers.draw(self.np_random, options or {})
        compact = self._view.rendering == "compact"
        key = f"{dossier.episode} {self.np_random.integers(2**31)}" if compact else ""
        handles = draw_handles(dossier.evidence.findings, key) if compact else {}
        self._inquiry = Inquiry(dossier.evidence, self.budget, handles)
        opening = self._inquiry.opening()
        observation = self._view.fit(f"{opening}\n\n{manual()}")
        self._shown = [observation]
        names = tuple(handles) or dossier.evidence.names
        return observation, {"episode": dossier.episode, "opening": self._view.fit(opening), "components": names}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Answer a call; `submit`, or more than the budget allows, terminates.

        The info holds `tool` (empty for an action that cannot be read), `calls` and `spent`; at the end also `terms`
        (those of the reward, each 0 to 1, and `spending`), `reason` (of a floor) and `answer`, the diagnosis as it was scored: JSON
        with names, or an empty string.
        """
        if self._dossier is None or self._inquiry is None or self._inquiry.over:
            raise ResetNeeded("this investigation has ended or not begun: call reset() before step()")
        reply = self._inquiry.ask(action)
        observation = self._view.fit(reply.text)
        self._shown += [str(action), observation]
        info: dict[str, Any] = {"tool": reply.tool, "calls": self._inquiry.calls, "spent": self._inquiry.spent}
        if not reply.over:
            return observation, 0.0, False, False, info
        reward, verdict = self._judge(self._dossier, self._inquiry)
        return observation, reward, True, False, {**info, **verdict}

    def render(self) -> str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """In mode `ansi` everything asked and answered since the reset, as text."""
        if self.render_mode is None:
            return None
        if self._dossier is None:
            raise ResetNeeded("nothing to render: call reset() first")
        return "\n\n".join(text if i % 2 == 0 else f"> {text}" for i, text in enumerate(self._shown))

    def close(self) -> None:
        """Stop a live sandbox; safe to call twice."""
        self._dossiers.close()

    def _judge(self, dossier: Dossier, inquiry: Inquiry) -> tuple[float, dict[str, Any]]:
        scored = dossier.score(inquiry.diagnosis)
        reason = "over budget: no answer" if inquiry.overrun else scored.reason
        answer = "" if inquiry.diagnosis is None else inquiry.diagnosis.to_json()
        terms = {**scored.terms, SPENDING_TERM: inquiry.share}
        return investigation_reward(scored, inquiry.share), {"terms": terms, "reason": reason, "answer": answer}
