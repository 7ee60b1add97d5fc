"""`chaosgym/RootCause-v0`: read the report of an incident, answer with a diagnosis. One step.

    observation   Text: the report, readable (names and numbers) or compact (handles and closed words)
    action        Text: JSON of a diagnosis; whatever else it is scores 0
    reward        `chaosgym.rewards.score`, in [0, 1]
"""

from __future__ import annotations

import dataclasses
import string
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, get_args

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Text

from chaosgym.envs.case import Case, CaseSource, Recordings, Rendering, View, check_source, open_case
from chaosgym.envs.live import LiveCases
from chaosgym.errors import InputError
from chaosgym.rewards import Score

__all__ = ["RootCauseEnv"]

CHARACTERS = frozenset(string.printable) - frozenset("\x0b\x0c\r") | frozenset("äöüÄÖÜßéèáàçñ§°±×÷·…–—→←≥≤≠µ‘’“”«»€")
"""What texts are made of; anything else in a report is shown as `?`."""
MAX_ACTION = 4096


class RootCauseEnv(gymnasium.Env[str, str]):
    """Replays recorded episodes (`episodes`), or breaks real services for each reset (`sandbox` and `scenarios`)."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi"], "render_fps": 1}  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        episodes: str | Path | None = None,
        *,
        sandbox: str | None = None,
        scenarios: str = "*",
        split: str | None = "train",
        rendering: Rendering = "readable",
        budget: int = 700,
        variants: int = 8,
        render_mode: str | None = None,
    ) -> None:
        """Prepare to replay or to run live; a live sandbox starts with the first reset.

        Args:
            episodes: Folder of recorded episodes.
            sandbox: Where to run live, `local`.
            scenarios: Names of the scenarios to run live, as a glob, or a path.
            split: Which episodes or scenarios to take; None takes all.
            rendering: `readable` or `compact`; a compact report is answered with its handles.
            budget: Tokens of a compact report; a readable one gets twice that.
            variants: In how many renderings a recorded episode comes, each with other handles and order.
            render_mode: `ansi` or None.

        Raises:
            InputError: Nothing to replay or run, or an argument that cannot be.
        """
        check_source(episodes, sandbox, render_mode)
        _check(rendering, variants)
        self.render_mode = render_mode
        self.observation_space = Text(40 * budget + 2048, min_length=0, charset=CHARACTERS)
        self.action_space = Text(MAX_ACTION, min_length=0, charset=CHARACTERS)
        view = View(rendering, budget, CHARACTERS, self.observation_space.max_length)
        self._live = sandbox is not None
        self._cases: CaseSource[Case] = (
            LiveCases(scenarios, split, partial(open_case, view=view)) if episodes is None else Recordings(episodes, split, view, variants)
        )
        self._case: Case | None = None
        self._answer: str | None = None
        self._score = Score(None)
        self._spec: EnvSpec | None = None

    @property
    def spec(self) -> EnvSpec | None:
        """As registered; a live one is not deterministic."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._spec = dataclasses.replace(spec, nondeterministic=True) if spec is not None and self._live else spec

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """The next incident: its report, and `episode`, `alert` and `components` in the info.

        `options={"episode": ID}` replays that one. Raises InfrastructureError when a live sandbox fails time and again.
        """
        super().reset(seed=seed)
        self._answer = None
        case = self._case = self._cases.draw(self.np_random, options or {})
        return case.report, {"episode": case.episode, "alert": case.alert, "components": case.components}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Score the diagnosis; always terminates. The info holds `terms` (each 0 to 1) and `reason` (of a floor)."""
        if self._case is None or self._answer is not None:
            raise ResetNeeded("an incident is answered once: call reset() before step()")
        if not isinstance(action, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError(f"the action is the text of a diagnosis, not {type(action).__name__} {action!r}; pass a str")
        self._answer, self._score = action, self._case.score(action)
        if self._score.total is None:
            raise InputError(f"episode {self._case.episode} cannot be scored: {self._score.reason}; leave it out")
        return self._case.report, self._score.total, True, False, {"terms": dict(self._score.terms), "reason": self._score.reason}

    def render(self) -> str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """In mode `ansi` the report, the answer and its score as text."""
        if self.render_mode is None:
            return None
        if self._case is None:
            raise ResetNeeded("nothing to render: call reset() first")
        if self._answer is None:
            return self._case.report
        terms = " ".join(f"{name} {value:.2f}" for name, value in self._score.terms.items())
        reward = f"{self._score.total:.3f} ({terms}) {self._score.reason}".rstrip()
        return f"{self._case.report}\n\n# Answer\n{self._answer}\n\n# Reward\n{reward}"

    def close(self) -> None:
        """Stop a live sandbox; safe to call twice."""
        self._cases.close()


def _check(rendering: str, variants: int) -> None:
    if rendering not in get_args(Rendering):
        raise InputError(f"unknown rendering {rendering!r}; known: {', '.join(get_args(Rendering))}")
    if variants < 1:
        raise InputError(f"variants={variants}: at least 1 rendering of each episode is needed")
