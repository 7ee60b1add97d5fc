"""An agent from what a user writes: a name, `slm:` and a model, or `endpoint:` and a model somewhere."""

from __future__ import annotations

from collections.abc import Callable

from chaosgym.agents.agent import Agent
from chaosgym.agents.investigator import ScriptedInvestigator
from chaosgym.agents.rails import NullAgent, RandomAgent
from chaosgym.agents.rules import RulesAgent
from chaosgym.agents.shipped import DEFAULT, shipped_model
from chaosgym.agents.shortcuts import SHORTCUTS
from chaosgym.errors import InputError, did_you_mean

__all__ = ["AGENT_NAMES", "make_agent"]


def _seedless(make: Callable[[], Agent]) -> Callable[[int], Agent]:
    return lambda seed: make()


_BY_NAME: dict[str, Callable[[int], Agent]] = {
    **{name: _seedless(make) for name, make in SHORTCUTS.items()},
    "investigator": lambda seed: ScriptedInvestigator(),
    "null": lambda seed: NullAgent(),
    "random": lambda seed: RandomAgent(seed),
    "rules": lambda seed: RulesAgent(),
}
_WITH_TRUTH = ("majority", "oracle")

AGENT_NAMES: tuple[str, ...] = tuple(sorted((*_BY_NAME, "endpoint:MODEL@URL", "slm", "slm:MODEL")))
"""What `make_agent` accepts; `MODEL` is a folder or an id on the hub, or what the server at `URL` calls it."""


def make_agent(spec: str, *, seed: int = 0, temperature: float = 0.0) -> Agent:
    """Make the agent that `spec` names, as in `rules` or `slm:runs/sft/model`.

    `slm` alone is the trained model that is shipped. A language model gives its likeliest answers, or above `temperature` 0 some at random.
    Raises InputError for an unknown name, for an unusable model, and for `oracle` and `majority`: those need the
    truth of episodes, so evaluation makes them itself and shows them beside every agent.
    """
    kind, _, model = spec.partition(":")
    if kind == "slm":
        from chaosgym.agents.slm import SlmAgent  # torch: only where a model is asked for

        found = SlmAgent(shipped_model(model or DEFAULT), temperature=temperature)
        if found.format.task == "investigate":
            from chaosgym.agents.caller import CallingAgent

            return CallingAgent(found)
        return found
    if kind == "endpoint" and model:
        from chaosgym.agents.endpoint import EndpointAgent  # HTTP and TLS: likewise

        return EndpointAgent.from_spec(model, temperature=temperature)
    if spec in _WITH_TRUTH:
        raise InputError(f"agent {spec!r} is made from the truth of episodes: evaluation adds it as a rail by itself")
    if spec not in _BY_NAME:
        raise InputError(f"unknown agent {spec!r}{did_you_mean(spec, _BY_NAME)}; known: {', '.join(AGENT_NAMES)}")
    return _BY_NAME[spec](seed)
