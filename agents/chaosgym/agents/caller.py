"""A language model that investigates: it writes calls, reads the pages they bring, and submits.

    opening ──> <tool_call> ──> page ──> <tool_call> ──> ... ──> submit, or words without a call, or the budget is gone

Conversations are put together as in training, from tokens of the model's own and of texts that the chat template gives; calls are
read as Qwen models write them. Incidents go on side by side, so that their turns are generated in batches.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from chaosgym.agents.agent import Investigation
from chaosgym.agents.slm import SlmAgent
from chaosgym.errors import InputError
from chaosgym.incident.compact import draw_handles
from chaosgym.incident.inquiry import Budget, Evidence, Inquiry, write_action

if TYPE_CHECKING:
    from chaosgym.incident.findings import Incident

__all__ = ["CallingAgent"]

_CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)
_MARK = "the turn of the assistant"


@dataclass
class _Talk:
    """One incident under investigation."""

    inquiry: Inquiry
    tokens: list[int]
    over: bool = False


class CallingAgent:
    """Investigates with a model that `chaosgym train` taught to with `task: investigate`."""

    def __init__(self, model: SlmAgent) -> None:
        """Raises InputError for a model whose folder does not say which tools it was told of."""
        if model.format.task != "investigate" or not model.format.tools:
            raise InputError(f"{model.name}: it was not trained to investigate; run `chaosgym train sft` with `task: investigate` first")
        self.name, self.format = model.name, model.format
        self.model = model

    def diagnose(self, incidents: Sequence[Incident]) -> list[str]:
        """Raises InputError: a report holds nothing that could be asked."""
        raise InputError(f"{self.name} asks for what it wants to see and reads no reports; judge it with `chaosgym eval`")

    def investigate(self, evidence: Sequence[Evidence], rendering: int = 0) -> list[Investigation]:
        """Ask about each incident until it is over; another `rendering` gives components other handles, where they go by handles."""
        found: list[Investigation] = []
        for at in range(0, len(evidence), self.model.batch_size):
            talks = [self._begin(one, rendering) for one in evidence[at : at + self.model.batch_size]]
            speak = self.model.turns()
            while going := [talk for talk in talks if not talk.over]:
                self._take_turns(going, speak)
            found += [_investigation(talk.inquiry) for talk in talks]
        return found

    def _begin(self, evidence: Evidence, rendering: int) -> _Talk:
        form = self.format
        handles = draw_handles(evidence.findings, f"{evidence.header.id} {rendering}") if form.rendering == "compact" else {}
        inquiry = Inquiry(evidence, Budget(form.calls, form.cost, form.page), handles)
        system = [{"role": "system", "content": form.system}] if form.system else []
        opening = self._render([*system, {"role": "user", "content": inquiry.opening()}], tools=True)
        return _Talk(inquiry, self.model.tokens(opening))

    def _take_turns(self, talks: Sequence[_Talk], speak: Callable[[Sequence[Sequence[int]]], list[list[int]]]) -> None:
        """Let the model say something in each, and answer it. A conversation that outgrows the model ends without an answer."""
        for talk in talks:
            talk.over = not self.model.fits(talk.tokens)
        fitting = [talk for talk in talks if not talk.over]
        for talk, said in zip(fitting, speak([talk.tokens for talk in fitting]) if fitting else [], strict=True):
            calls = [action for text in _CALL.findall(self.model.text(said)) if (action := _action(text))]
            pages = [(action, talk.inquiry.ask(action).text) for action in calls if not talk.inquiry.over]
            talk.over = talk.inquiry.over or not pages
            answered = self.model.tokens(self._answered([page for _, page in pages]))
            talk.tokens += said + (answered[1:] if answered[:1] == said[-1:] else answered)  # its turn has ended, or has been cut off

    def _answered(self, pages: Sequence[str]) -> str:
        """From the end of the assistant's turn to where it goes on."""
        told = [{"role": "tool", "content": page} for page in pages]
        whole = self._render([{"role": "user", "content": "?"}, {"role": "assistant", "content": _MARK}, *told], tools=False)
        return whole.partition(_MARK)[2]

    def _render(self, messages: list[dict[str, Any]], *, tools: bool) -> str:
        return self.model.render(messages, list(self.format.tools) if tools else None)


def _action(text: str) -> str:
    """A call as the inquiry reads it; empty where it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(found, dict):
        return ""
    call = cast(dict[str, Any], found)
    arguments = call.get("arguments", {})
    return write_action(str(call.get("name", "")), arguments) if isinstance(arguments, dict) else ""


def _investigation(inquiry: Inquiry) -> Investigation:
    answer = "" if inquiry.diagnosis is None else inquiry.diagnosis.to_json()
    return Investigation(answer, inquiry.calls, inquiry.spent)
